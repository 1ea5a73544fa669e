//! Media errors by the kernel's own hand: who hears of them, what is lost, and what goes on.
//!
//! * [`paxfs`], [`xfs`]: what is done on each, the same by name; [`crate::poison`]: how a page fails.
//!
//! Each is done on a volume of its own, which is new, and in a process of its own, which a signal may end.

mod paxfs;
mod xfs;

use crate::directory::Directory;
use crate::poison::PAGE;
use crate::report::row;
use crate::target::Result;
use crate::tools::{run, show};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

pub use xfs::map_and_listen;

/// What files have that lose a page, in bytes; and where in them that is.
const BYTES: usize = 16 * PAGE;
const LOST: usize = 5 * PAGE;

/// One error, and what came of it.
struct Case {
    name: &'static str,
    /// What must come out of it on paxfs.
    promised: &'static str,
    paxfs: fn(&Path) -> Result<String>,
    /// With which exit status a check ends that is shown.
    shown: Option<i32>,
    /// None where there is nothing like it.
    xfs: Option<OnXfs>,
}

/// What is done on an XFS.
type OnXfs = fn(&mut Directory) -> Result<String>;

impl Case {
    /// One after which no error is left, and the volume is as it should be.
    const fn goes_on(name: &'static str, paxfs: fn(&Path) -> Result<String>, xfs: Option<OnXfs>) -> Self {
        Case { name, promised: "goes on; 0 bad; clean", paxfs, shown: None, xfs }
    }
}

/// A page of memory fails: on paxfs on devdax, and on XFS.
const POISONED: &[Case] = &[
    Case {
        name: "a shared page fails: who hears",
        promised: "/one and /two at their addresses, /three",
        paxfs: paxfs::who_hears,
        shown: None,
        xfs: Some(xfs::who_hears),
    },
    Case {
        name: "a shared page fails: a load by the other mapping",
        promised: "SIGBUS with EIO",
        paxfs: paxfs::what_a_load_gets,
        shown: None,
        xfs: Some(xfs::what_a_load_gets),
    },
    Case {
        name: "a shared page fails: reads of all three",
        promised: "EIO, EIO, EIO",
        paxfs: paxfs::what_reads_get,
        shown: Some(4),
        xfs: Some(xfs::what_reads_get),
    },
    Case {
        name: "a shared page fails, /one is written anew: reads",
        promised: "4 KiB of 0x22, EIO, EIO",
        paxfs: paxfs::what_heals,
        shown: None,
        xfs: Some(xfs::what_heals),
    },
    Case::goes_on("a free page fails", paxfs::free, Some(xfs::free)),
    Case::goes_on("a node of the free space fails", paxfs::free_space, Some(xfs::free_space)),
    Case::goes_on(
        "a node of the reference counts fails",
        paxfs::reference_counts,
        Some(xfs::reference_counts),
    ),
    Case::goes_on("a node of the reverse map fails", paxfs::reverse_map, Some(xfs::reverse_map)),
    Case::goes_on("a node of a file's extent map fails", paxfs::extent_map, Some(xfs::extent_map)),
    Case::goes_on("the journal fails, and has nothing in it", paxfs::journal, Some(xfs::journal)),
    Case::goes_on(
        "the journal fails, and has the last change in it",
        paxfs::journal_in_use,
        Some(xfs::journal_in_use),
    ),
];

/// A page of a devdax device fails that is mapped by 2 MiB: the kernel takes away all of that, and names its beginning. As its
/// bytes are there still, nobody finds out which page it was.
const IN_UNITS: &[Case] = &[
    Case {
        name: "2 MiB of a file fail that can be read: who hears",
        promised: "nobody, and all of it reads",
        paxfs: paxfs::a_unit,
        shown: None,
        xfs: None,
    },
    Case::goes_on("2 MiB of metadata fail that can be read", paxfs::free_space, None),
];

/// A block is on the kernel's list of a block device, and stays there.
const LISTED: &[Case] = &[
    Case {
        name: "a page of a file stays bad: read; written anew",
        promised: "EIO; 4 KiB of 0x22; 1 bad",
        paxfs: paxfs::stays_bad,
        shown: None,
        xfs: Some(xfs::stays_bad),
    },
    Case {
        name: "a free block stays bad: the device filled up",
        promised: "all of it reads; 1 bad",
        paxfs: paxfs::is_not_given_out,
        shown: Some(0),
        xfs: Some(xfs::is_not_given_out),
    },
];

/// All cases: on a devdax device in 2 MiB, on one in pages, and on an XFS, which is not mounted.
pub fn run_all(devdax: &Path, pages: &Path, xfs: &mut Directory) -> Result<()> {
    let pmem = xfs.device().to_owned();
    for (cases, device) in [(POISONED, pages), (IN_UNITS, devdax), (LISTED, &pmem)] {
        for case in cases {
            let theirs = case.xfs.map(|_| on_xfs(case, xfs)).transpose()?.unwrap_or_default();
            forget_errors(&pmem)?;
            run(&format!("mkfs.paxfs -q -f {}", device.display()), 0)?;
            let ours = in_a_process(case, "paxfs", device)?;
            row(case.name, case.promised, &ours, &theirs);
            if let Some(status) = case.shown {
                show(&format!("fsck.paxfs -nf {}", device.display()), status)?;
            }
        }
    }
    Ok(())
}

fn on_xfs(case: &Case, xfs: &mut Directory) -> Result<String> {
    xfs.renew()?;
    let outcome = in_a_process(case, "xfs", xfs.device())?;
    xfs.unmount()?;
    Ok(outcome)
}

/// Has the kernel make its list of a device's errors anew.
fn forget_errors(device: &Path) -> Result<()> {
    let number = device.to_string_lossy().replace(|c: char| !c.is_ascii_digit(), "");
    run(&format!("ndctl disable-namespace namespace{number}.0"), 0)?;
    run(&format!("ndctl enable-namespace namespace{number}.0"), 0)
}

fn in_a_process(case: &Case, on: &str, device: &Path) -> Result<String> {
    let output =
        Command::new(std::env::current_exe()?).args(["error", case.name, on]).arg(device).output()?;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(match output.status.signal() {
        Some(signal) => format!("ended by signal {signal}"),
        None => String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
    })
}

/// What such a process does: a case, on `paxfs` or `xfs`, on a device.
pub fn run_one(name: &str, on: &str, device: &Path) -> Result<()> {
    let case = [POISONED, IN_UNITS, LISTED]
        .into_iter()
        .flatten()
        .find(|case| case.name == name)
        .ok_or("no such case")?;
    let outcome = match on {
        "xfs" => case.xfs.map_or_else(|| Ok(String::new()), |run| run(&mut Directory::mounted(device))),
        _ => (case.paxfs)(device),
    };
    println!("{}", outcome.unwrap_or_else(|error| format!("error: {error}")));
    Ok(())
}
