//! A volume on each kind of medium that tests can have.

use super::{check_bytes, volume};
use paxfs_format::device::DeviceError;
use paxfs_format::device::{Access, Device};
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Durable, Granularity, Mapped, Medium, Point, Recorder, Window};
use paxfs_runtime::namespace::New;
use paxfs_runtime::views::Mechanism;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// What a volume lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A medium that cannot be mapped: loads and stores are calls.
    Shim,
    /// A file on tmpfs, with what is best there.
    Memory,
    /// A file on tmpfs, with signals.
    Signals,
    /// A file on tmpfs, mapped by 2 MiB and nothing less.
    Coarse,
    /// A file behind the page cache.
    File,
}

impl Media {
    /// Those that this machine has.
    pub fn all() -> Vec<Self> {
        [Self::Shim].into_iter().chain(Self::in_memory()).chain([Self::File]).collect()
    }

    /// Those that are mapped, without a disk below if that can be.
    pub fn quick() -> Vec<Self> {
        Some(Self::in_memory()).filter(|memory| !memory.is_empty()).unwrap_or_else(|| vec![Self::File])
    }

    fn in_memory() -> Vec<Self> {
        let memory = vec![Self::Memory, Self::Signals, Self::Coarse];
        Some(memory).filter(|_| Path::new("/dev/shm").is_dir()).unwrap_or_default()
    }
}

/// A volume that outlives its engine.
pub struct Volume {
    media: Media,
    medium: Option<Arc<Recorder>>,
    path: PathBuf,
    _directory: TempDir,
}

impl Volume {
    pub fn new(media: Media, bytes: usize) -> Self {
        let is_memory = matches!(media, Media::Memory | Media::Signals | Media::Coarse);
        let place = if is_memory { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let directory = tempfile::tempdir_in(place).unwrap();
        let path = directory.path().join("image");
        let image = volume(bytes);
        let medium = (media == Media::Shim)
            .then(|| Arc::new(Recorder::forgetful(image.clone(), Granularity::CacheLine)));
        if medium.is_none() {
            std::fs::write(&path, image).unwrap();
        }
        Volume { media, medium, path, _directory: directory }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn open(&self, dax: Dax) -> Engine {
        self.open_with(Options { interval: Duration::ZERO, dax, ..Options::default() })
    }

    pub fn open_with(&self, mut options: Options) -> Engine {
        options.mechanism = options.mechanism.or((self.media == Media::Signals).then_some(Mechanism::Signal));
        match &self.medium {
            Some(medium) => Engine::on_medium(Arc::clone(medium) as Arc<dyn Medium>, options).unwrap(),
            None if self.media == Media::Coarse => {
                let device = Device::open(&self.path, Access::Exclusive).unwrap();
                Engine::on_medium(Arc::new(Coarse(Mapped::new(device).unwrap())), options).unwrap()
            }
            None => Engine::on(Device::open(&self.path, Access::Exclusive).unwrap(), options).unwrap(),
        }
    }

    /// Makes a file that reaches as far to the end of the device as any can. Its inode, and where its last three blocks there
    /// are: block of the file, block of the device.
    pub fn fill(&self) -> (u64, Vec<(u64, u64)>) {
        let engine = self.open(Dax::Inode);
        let inode = engine.create(engine.root(), b"file", &New::default()).unwrap();
        let file = engine.open_file(inode, Open::WRITE).unwrap();
        let mut at = 0;
        while file.write_at(at, &[7; 64 << 10]).is_ok() {
            at += 64 << 10;
        }
        let mut blocks = Vec::new();
        for extent in file.extents().unwrap() {
            if !extent.flags.is_unwritten() {
                let (offset, start) = (extent.offset.get(), extent.start.get());
                blocks.extend((0..u64::from(extent.length.get())).map(|step| (offset + step, start + step)));
            }
        }
        blocks.sort_by_key(|(_, device)| *device);
        drop(file);
        engine.close().unwrap();
        (inode, blocks.split_off(blocks.len() - 3))
    }

    /// A check that finds nothing.
    pub fn check(&self) {
        check_bytes(match &self.medium {
            Some(medium) => medium.now(),
            None => std::fs::read(&self.path).unwrap(),
        });
    }
}

/// As devdax is mapped.
struct Coarse(Mapped);

impl Medium for Coarse {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn granularity(&self) -> Granularity {
        self.0.granularity()
    }
    fn load(&self, offset: u64, to: &mut [u8]) {
        self.0.load(offset, to);
    }
    fn failures(&self) -> u64 {
        self.0.failures()
    }
    fn failed(&self) -> Vec<u64> {
        self.0.failed()
    }
    fn has_failed(&self, range: Range<u64>) -> bool {
        self.0.has_failed(range)
    }
    fn narrow(&self) -> Vec<u64> {
        self.0.narrow()
    }
    fn heal(&self, block: u64) -> bool {
        self.0.heal(block)
    }
    fn store(&self, offset: u64, bytes: &[u8]) {
        self.0.store(offset, bytes);
    }
    fn store_nt(&self, offset: u64, bytes: &[u8]) {
        self.0.store_nt(offset, bytes);
    }
    fn zero_nt(&self, range: Range<u64>) {
        self.0.zero_nt(range);
    }
    fn flush(&self, range: Range<u64>, point: Point) {
        self.0.flush(range, point);
    }
    fn drain(&self, point: Point) {
        self.0.drain(point);
    }
    fn fence(&self, point: Point) -> Result<Durable, DeviceError> {
        self.0.fence(point)
    }
    fn window(&self) -> Option<Window<'_>> {
        self.0.window().map(|window| Window {
            memory: false,
            huge: true,
            coarse: true,
            private: false,
            ..window
        })
    }
}

/// A test on each medium, with a check at the end.
pub fn each(test: impl Fn(&Engine)) {
    each_of(Media::all(), test);
}

/// As [`each`], on those where a page is mapped by itself.
pub fn each_by_page(test: impl Fn(&Engine)) {
    each_of(Media::all().into_iter().filter(|media| *media != Media::Coarse).collect(), test);
}

pub fn each_of(media: Vec<Media>, test: impl Fn(&Engine)) {
    for media in media {
        eprintln!("on {media:?}");
        let volume = Volume::new(media, 32 << 20);
        let engine = volume.open(Dax::Always);
        test(&engine);
        engine.close().unwrap();
        volume.check();
    }
}
