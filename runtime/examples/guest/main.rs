//! What runs in the guest of `cargo xtask guest`: paxfs on emulated persistent memory, and the kernel's XFS beside it.
//!
//! ```text
//! guest                        as the guest's first process: makes the machine ready, runs the cases, powers off
//! guest DEVDAX DEVDAX PMEM     the cases alone, on devices whose contents are lost: two devdax devices, of which the
//!                              second is mapped in pages, and one for XFS
//! guest error CASE ON DEVICE   one media error, on `paxfs` or `xfs`
//! guest map HOW FILE           maps a file until standard input ends, and says which signal came; HOW is `early` or `late`
//! ```
//!
//! * [`cases`]: what is done on all, the same by name; [`target`]: on what; [`volume`] (paxfs on devdax) and
//!   [`directory`] (XFS, `-o dax=always`): the two kinds of it.
//! * [`media`]: what only paxfs has to do with media: which tools work on devdax, and what makes a store last where.
//! * [`errors`]: pages that fail under each kind of structure, and what each does about it; [`poison`]: how they are made to.
//! * [`machine`]: the guest itself; [`tools`]: programs in it; [`report`]: the lines that say what came out.
//!
//! A new case is an entry of [`cases::CASES`], or of a table in [`errors`].

mod cases;
mod directory;
mod errors;
mod machine;
mod media;
mod poison;
mod report;
mod target;
mod tools;
mod volume;

use cases::CASES;
use directory::Directory;
use std::path::Path;
use std::process::ExitCode;
use target::Result;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["map", early, file] => errors::map_and_listen(early, file.as_ref()),
        [devdax, pages, pmem] => run(devdax.as_ref(), pages.as_ref(), pmem.as_ref()).map(|()| report::end()),
        ["error", case, on, device] => errors::run_one(case, on, device.as_ref()),
        [] if std::process::id() == 1 => machine::init(),
        _ => Err("usage: guest DEVDAX DEVDAX PMEM".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failed(&*error);
            ExitCode::FAILURE
        }
    }
}

/// All of it, with what came out on stdout.
fn run(devdax: &Path, pages: &Path, pmem: &Path) -> Result<()> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let seconds = uptime.split(' ').next().unwrap_or_default();
    report::say(&format!("Linux {}, booted in {seconds} s", kernel.trim_end()));
    media::try_tools(devdax)?;
    let mut volumes = [media::make_volume(devdax)?, media::make_volume(pages)?];
    let mut xfs = Directory::make(pmem)?;
    for volume in &mut volumes {
        cases::make_stale(volume)?;
    }
    cases::make_stale(&mut xfs)?;
    for case in CASES {
        let [ours, on_pages] = volumes.each_mut().map(|volume| case.on(volume));
        let ours = if ours == on_pages { ours } else { format!("{ours} / {on_pages}") };
        report::row(case.name, case.promised, &ours, &case.on(&mut xfs));
    }
    for volume in volumes {
        media::look_at_volume(volume)?;
    }
    media::engine_on_xfs(&mut xfs)?;
    xfs.unmount()?;
    errors::run_all(devdax, pages, &mut xfs)
}
