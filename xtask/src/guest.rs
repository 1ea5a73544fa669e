//! paxfs on real media: a guest with emulated persistent memory, in which its tools and its engine run on a devdax device,
//! and the kernel's XFS with `-o dax=always` does the same beside it.
//!
//! * [`kernel`]: Debian's, unpacked and not installed; [`initramfs`]: what the guest has; [`machine`]: QEMU; [`report`]:
//!   what came out, as a table.
//! * What the guest does is in `runtime/examples/guest`.
//!
//! A machine that lacks something for it skips all of it, with a word.

mod initramfs;
mod kernel;
mod machine;
mod report;

use crate::cargo::Workspace;
use crate::toolbox::{self, Toolbox};
use crate::tools::TOOLS;
use anyhow::{Context, Result};
use initramfs::Initramfs;
use kernel::Kernel;
use machine::Machine;
use report::Report;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the guest is run.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Use KVM, which takes a /dev/kvm that works; software emulation works everywhere
    #[arg(long)]
    kvm: bool,
    /// How long the guest may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

/// Kernel modules that the guest needs, beside those that these need. What a kernel has built in is no module there.
///
/// Checksums come first: their users ask for them by name, not by symbol. `hwpoison_inject` is for media errors.
const MODULES: [&str; 7] =
    ["crc32c_generic", "xfs", "nfit", "nd_pmem", "device_dax", "dax_pmem", "hwpoison_inject"];

/// Programs of this system that the guest needs.
const PROGRAMS: [&str; 2] = ["ndctl", "mkfs.xfs"];

/// What has to be there, and is not made here.
struct Means {
    qemu: PathBuf,
    kernel: Kernel,
    /// Those of [`PROGRAMS`].
    programs: Vec<PathBuf>,
}

impl Means {
    /// Finds all of it; why not, if something is missing.
    fn find(place: &Path) -> std::result::Result<Self, String> {
        if !cfg!(target_arch = "x86_64") {
            return Err("the guest has the programs of this machine, and is an x86-64".to_owned());
        }
        let find =
            |program: &str| toolbox::find(program).ok_or_else(|| format!("{program} is not installed"));
        Ok(Means {
            qemu: find("qemu-system-x86_64")?,
            programs: PROGRAMS.into_iter().map(find).collect::<std::result::Result<_, _>>()?,
            kernel: Kernel::find(place)?,
        })
    }
}

/// Boots the guest, and shows what came out.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let place = workspace.target.join("guest");
    fs::create_dir_all(&place).with_context(|| format!("{}", place.display()))?;
    let means = match Means::find(&place) {
        Ok(means) => means,
        Err(why) => {
            println!("skipped: no guest: {why}");
            return Ok(());
        }
    };
    let initramfs = place.join("initramfs.cpio");
    fs::write(&initramfs, pack(&workspace, &means)?).with_context(|| format!("{}", initramfs.display()))?;
    let machine = Machine {
        qemu: &means.qemu,
        kernel: &means.kernel.image()?,
        initramfs: &initramfs,
        place: &place,
        kvm: arguments.kvm,
        timeout: Duration::from_secs(arguments.timeout),
    };
    let lines = machine.run()?;
    let report = Report::parse(&lines).map_err(|error| machine.explain(&error))?;
    print!("{report}");
    report.complete().map_err(|error| machine.explain(&error))?;
    report.judge()
}

/// The initramfs, as bytes.
fn pack(workspace: &Workspace, means: &Means) -> Result<Vec<u8>> {
    let toolbox = Toolbox::build(workspace)?;
    let mut initramfs = Initramfs::default();
    initramfs.program("init", &workspace.build_example("paxfs-runtime", "guest")?)?;
    for tool in &TOOLS {
        initramfs.program(&format!("bin/{}", tool.name), &toolbox.path_of(tool.name))?;
    }
    for (name, path) in PROGRAMS.iter().zip(&means.programs) {
        initramfs.program(&format!("bin/{name}"), path)?;
    }
    for (index, (name, bytes)) in means.kernel.modules(&MODULES)?.iter().enumerate() {
        initramfs.file(&format!("modules/{index:02}-{name}.ko"), bytes);
    }
    Ok(initramfs.finish())
}
