//! The machine that the guest is: QEMU, with NVDIMMs of memory, and two serial ports that are files here.

use anyhow::{Context, Error, Result, anyhow, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How many NVDIMMs there are. They are alike, for the kernel numbers them as it likes.
const NVDIMMS: usize = 3;

/// What each has, in MiB: the least that XFS takes (300), and what goes to labels and to the kernel's notes on each page.
const NVDIMM_MIB: u64 = 322;

/// Runs a program, and ends it when standard input does: when this process is gone, however it ended.
const WATCHED: &str = r#"exec 3<&0
"$@" </dev/null 3<&- &
program=$!
{ read -r _ <&3; kill "$program"; } 2>&- &
watcher=$!
wait "$program"
status=$?
kill "$watcher" 2>&-
exit "$status""#;

/// Lines of the console that a failure shows.
const LAST_LINES: usize = 20;

/// What is booted, and how.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The program.
    pub qemu: &'a Path,
    /// The kernel's image.
    pub kernel: &'a Path,
    /// What the guest has.
    pub initramfs: &'a Path,
    /// Where its serial ports are put, as files.
    pub place: &'a Path,
    /// Whether the processor is the real one.
    pub kvm: bool,
    /// How long it may take.
    pub timeout: Duration,
}

impl Machine<'_> {
    /// Runs the guest until it powers off; what came by its second serial port.
    pub fn run(&self) -> Result<String> {
        let (messages, report) = (self.place.join("qemu.log"), self.place.join("report"));
        for path in [&self.console(), &report] {
            File::create(path).with_context(|| format!("{}", path.display()))?;
        }
        let mut qemu = Command::new("sh");
        qemu.args(["-c", WATCHED, "sh"]).arg(self.qemu);
        let processor =
            if self.kvm { ["-accel", "kvm", "-cpu", "host"] } else { ["-accel", "tcg", "-cpu", "max"] };
        qemu.args(processor).args(["-machine", "q35,nvdimm=on", "-smp", "2", "-m", "1G,slots=3,maxmem=4G"]);
        for number in 0..NVDIMMS {
            qemu.arg("-object").arg(format!("memory-backend-ram,id=memory{number},size={NVDIMM_MIB}M"));
            qemu.arg("-device").arg(format!("nvdimm,id=nvdimm{number},memdev=memory{number},label-size=2M"));
        }
        qemu.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        // A guest that panics reboots, which is the end of it.
        qemu.args(["-append", "console=ttyS0 panic=-1", "-no-reboot"]);
        qemu.args(["-nodefaults", "-display", "none"]);
        for port in [&self.console(), &report] {
            qemu.arg("-serial").arg(format!("file:{}", port.display()));
        }
        qemu.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(&messages)?);
        let began = Instant::now();
        let mut child = qemu.spawn().with_context(|| format!("{}", self.qemu.display()))?;
        let mut life = child.stdin.take();
        let ended = loop {
            if let Some(ended) = child.try_wait()? {
                break ended;
            }
            if began.elapsed() > self.timeout {
                drop(life.take());
                child.wait()?;
                let seconds = self.timeout.as_secs();
                return Err(self.explain(&anyhow!("the guest has not ended after {seconds} s")));
            }
            sleep(Duration::from_millis(50));
        };
        if !ended.success() {
            bail!("{}: {ended}\n{}", self.qemu.display(), fs::read_to_string(&messages)?.trim_end());
        }
        Ok(String::from_utf8_lossy(&fs::read(&report)?).into_owned())
    }

    /// An error with the end of the console behind it.
    pub fn explain(&self, error: &Error) -> Error {
        let console = fs::read(self.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().map(str::trim_end).collect();
        let last = lines.split_at(lines.len().saturating_sub(LAST_LINES)).1.join("\n");
        anyhow!("{error:#}; its console ({}) ends:\n{last}", self.console().display())
    }

    fn console(&self) -> PathBuf {
        self.place.join("console.log")
    }
}
