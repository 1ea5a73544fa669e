//! `restore`: a device from a dump.

use crate::dump::restore::{RestoreError, Restored, blocks, header};
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use clap::Args;
use paxfs_format::device::{Access, Device, DeviceError, DeviceKind};
use paxfs_format::words::counted;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "DEVICE is made as a sparse file. All metadata is there, byte for byte; contents of files are zeros. On a block \
                  or devdax device (with -f) only metadata is written, and what was there before stays in between."
)]
pub struct Arguments {
    /// The dump; - is standard input
    pub file: PathBuf,

    /// Use a DEVICE that is there, whatever is on it
    #[arg(short)]
    pub force: bool,
}

/// At the prompt there is a device already.
pub fn run(_session: &Session, _arguments: &Arguments) -> Result<Output, CommandError> {
    let message = "restore makes the device of the command line anew: dbg.paxfs DEVICE restore FILE";
    Err(CommandError::Usage(message.to_owned()))
}

/// Makes `device` from the dump.
pub fn make(device: &Path, arguments: &Arguments) -> Result<Output, CommandError> {
    let restored = if arguments.file == Path::new("-") {
        restore(&mut std::io::stdin().lock(), device, arguments.force)
    } else {
        let file =
            File::open(&arguments.file).map_err(CommandError::io(arguments.file.display().to_string()))?;
        restore(&mut BufReader::with_capacity(1 << 20, file), device, arguments.force)
    };
    let restored = restored.map_err(|error| match error {
        RestoreError::Device(DeviceError::Exists { path }) => {
            CommandError::Failed(format!("{}: is there already; -f overwrites it", path.display()))
        }
        RestoreError::Device(error) => error.into(),
        error => CommandError::Failed(error.to_string()),
    })?;
    let Restored { device_bytes, obfuscated, blocks, lost } = restored;
    let mut text = format!("{} of metadata on a device of {device_bytes} bytes", counted(blocks, "block"));
    if obfuscated {
        text += "; names are not the volume's own";
    }
    if lost > 0 {
        text += &format!("; missing: {}, whose medium had failed", counted(lost, "block"));
    }
    Ok(Output::new().text(text).data("restored", &restored))
}

/// Makes the device `path` from a dump.
pub fn restore(source: &mut impl Read, path: &Path, force: bool) -> Result<Restored, RestoreError> {
    let header = header(source)?;
    let bytes = header.device_bytes.get();
    let mut made = true;
    let mut device = match Device::create(path, bytes) {
        Err(DeviceError::Exists { .. }) if force => {
            made = false;
            existing(path, bytes)?
        }
        device => device?,
    };
    let restored = blocks(source, &header, &mut device).and_then(|restored| {
        device.sync()?;
        Ok(restored)
    });
    restored.inspect_err(|_| {
        if made {
            // It is the first error that counts.
            let _ = std::fs::remove_file(path);
        }
    })
}

/// A device that is there, made to read as zeros if it is a file.
fn existing(path: &Path, bytes: u64) -> Result<Device, RestoreError> {
    let mut device = Device::open(path, Access::Exclusive)?;
    if device.kind() == DeviceKind::File {
        device.zero_range(0, device.len())?;
        device.resize(bytes)?;
    } else if device.len() < bytes {
        let path = path.to_path_buf();
        return Err(DeviceError::TooSmall { path, bytes: device.len(), least: bytes }.into());
    }
    Ok(device)
}
