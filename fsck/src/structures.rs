//! Words for what is wrong with a structure, and the field that a fault is about.

use paxfs_format::header::HeaderFault;
use paxfs_format::volume::StructureFault;

/// Of a block that is not there. The pointer to it is what can be looked at.
pub(crate) const NOWHERE: &str = "it is past the end of the device";

/// The field of a header that a fault is about, as the end of a path.
pub(crate) fn header_field(fault: &HeaderFault) -> &'static str {
    match fault {
        HeaderFault::Magic(_) => ".header.magic",
        HeaderFault::Crc { .. } => ".header.crc",
        HeaderFault::Kind { .. } => ".header.kind",
        HeaderFault::Place { .. } => ".header.place",
        HeaderFault::Owner { .. } => ".header.owner",
        HeaderFault::Reserved(_) => "",
    }
}

/// The field of a structure that a fault is about, as the end of a path.
pub(crate) fn structure_field(fault: &StructureFault) -> String {
    match fault {
        StructureFault::Header(fault) => header_field(fault).to_owned(),
        StructureFault::Version(_) => ".version".to_owned(),
        StructureFault::Geometry(paxfs_format::geometry::GeometryError::Field { field, .. }) => {
            format!(".{field}")
        }
        _ => String::new(),
    }
}
