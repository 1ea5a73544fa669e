//! The target of whole images.

use crate::damage::damaged;
use crate::draw::Draw;
use crate::samples::samples;
use crate::tools;
use paxfs_format::device::Device;

/// A device as fsck, dbg and every reader may meet it: any bytes, or a sample with damages.
///
/// Must hold: nothing panics or hangs.
pub fn image_check(data: &[u8]) {
    let mut draw = Draw::new(data);
    let (device, _) = image(&mut draw);
    tools::ask_all(device, data);
}

/// The device that [`image_check`] takes bytes for, and how it came about.
pub fn image_of(data: &[u8]) -> (Device, Vec<String>) {
    image(&mut Draw::new(data))
}

fn image(draw: &mut Draw<'_>) -> (Device, Vec<String>) {
    let which = usize::from(draw.byte());
    // One in sixteen is no sample at all.
    if which & 15 == 15 {
        let bytes = draw.rest();
        return (Device::memory(bytes.to_vec()), vec![format!("{} bytes as they are", bytes.len())]);
    }
    let samples = samples();
    match samples.get(which.checked_rem(samples.len()).unwrap_or(0)) {
        Some(sample) => {
            let (device, mut done) = damaged(sample, draw);
            done.insert(0, format!("sample {}", sample.name));
            (device, done)
        }
        None => (Device::memory(Vec::new()), Vec::new()),
    }
}
