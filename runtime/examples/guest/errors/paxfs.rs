//! What an error costs on paxfs.

use super::{BYTES, LOST};
use crate::cases::runs;
use crate::poison::{self, PAGE};
use crate::target::{Result, Target};
use crate::tools::run;
use crate::volume::Volume;
use paxfs_format::device::{Access, Device};
use paxfs_format::group::GroupTree;
use paxfs_format::volume;
use paxfs_runtime::error::Error;
use paxfs_runtime::media::MediaError;
use paxfs_runtime::views::{Sharing, View};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What handlers were told.
type Told = Arc<Mutex<Vec<MediaError>>>;

/// A page that two mapped files and one that nobody has open share, after it failed.
struct Shared {
    volume: Volume,
    told: Told,
    /// Of `one` and `two`.
    views: [View; 2],
}

impl Shared {
    fn fail(device: &Path) -> Result<Self> {
        poison::listen();
        let mut volume = Volume::open(device)?;
        volume.write("one", 0, &[0x11; BYTES])?;
        volume.clone("one", "two")?;
        volume.clone("one", "three")?;
        // The engine itself has nothing of it mapped then.
        volume.remount()?;
        let told = hear(&volume)?;
        let map = |name| -> Result<View> { Ok(volume.file(name)?.map(0..BYTES as u64, Sharing::Shared)?) };
        let shared = Shared { views: [map("one")?, map("two")?], told, volume };
        let [one, two] = [shared.page(0)?, shared.page(1)?];
        if (poison::load(one), poison::load(two)) != (0x11, 0x11) {
            return Err("the views show something else".into());
        }
        poison::at(one)?;
        Ok(shared)
    }

    /// Where the lost page is in a view.
    fn page(&self, view: usize) -> Result<*mut u8> {
        let base = self.views.get(view).and_then(View::address).ok_or("no address")?;
        Ok(base.as_ptr().wrapping_add(LOST))
    }

    /// What all three read as there.
    fn reads(&self) -> Result<String> {
        let reads = ["one", "two", "three"].map(|name| read(&self.volume, name));
        Ok(reads.into_iter().collect::<Result<Vec<_>>>()?.join(", "))
    }
}

/// What the engine tells from now on.
fn hear(volume: &Volume) -> Result<Told> {
    let told = Told::default();
    let all = Arc::clone(&told);
    volume.engine()?.on_media_error(Box::new(move |error| {
        all.lock().unwrap_or_else(PoisonError::into_inner).push(error.clone());
    }));
    Ok(told)
}

/// What a file reads as at the lost page.
fn read(volume: &Volume, name: &str) -> Result<String> {
    let mut bytes = [0; PAGE];
    match volume.file(name)?.read_at(LOST as u64, &mut bytes) {
        Ok(_) => Ok(runs(&bytes)),
        Err(Error::LostData { .. }) => Ok("EIO".to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// Whether each owner of the page is told of, and where.
pub fn who_hears(device: &Path) -> Result<String> {
    let shared = Shared::fail(device)?;
    let pages = [shared.page(0)?, shared.page(1)?].map(|page| Some(page.addr()));
    let mut told = shared.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    told.sort_by_key(|error| error.inode);
    let at = |error: &MediaError| (error.path.clone().unwrap_or_default(), error.offset, error.address);
    let expected = [("/one", pages[0]), ("/two", pages[1]), ("/three", None)]
        .map(|(path, address)| (path.as_bytes().to_vec(), LOST as u64, address));
    Ok(if told.iter().map(at).eq(expected) {
        "/one and /two at their addresses, /three".to_owned()
    } else {
        format!("{told:?}")
    })
}

/// What a thread gets that loads from the view in which nobody met the error yet.
pub fn what_a_load_gets(device: &Path) -> Result<String> {
    let shared = Shared::fail(device)?;
    let page = shared.page(1)?;
    let byte = poison::load(page);
    Ok(poison::heard_at(page).unwrap_or_else(|| format!("{byte:#04x}")))
}

pub fn what_reads_get(device: &Path) -> Result<String> {
    let shared = Shared::fail(device)?;
    let reads = shared.reads()?;
    let Shared { volume, views, .. } = shared;
    drop(views);
    volume.close()?;
    Ok(reads)
}

pub fn what_heals(device: &Path) -> Result<String> {
    let shared = Shared::fail(device)?;
    shared.volume.file("one")?.write_at(LOST as u64, &[0x22; PAGE])?;
    match poison::load(shared.page(0)?) {
        0x22 => shared.reads(),
        byte => Err(format!("the view shows {byte:#04x}").into()),
    }
}

pub fn free(device: &Path) -> Result<String> {
    let mut volume = Volume::open(device)?;
    let block = free_block(&mut volume)?;
    fail_and_use(volume, block)
}

/// A block that was a file's.
fn free_block(volume: &mut Volume) -> Result<u64> {
    volume.write("gone", 0, &[0x11; BYTES])?;
    let block = volume.first_block("gone")?;
    volume.remove("gone")?;
    volume.free()?;
    Ok(block)
}

pub fn free_space(device: &Path) -> Result<String> {
    tree(device, GroupTree::Free)
}

pub fn reference_counts(device: &Path) -> Result<String> {
    tree(device, GroupTree::Refcount)
}

pub fn reverse_map(device: &Path) -> Result<String> {
    tree(device, GroupTree::Rmap)
}

/// The root of a tree fails.
fn tree(device: &Path, which: GroupTree) -> Result<String> {
    let mut volume = Volume::open(device)?;
    volume.write("one", 0, &[0x11; BYTES])?;
    volume.clone("one", "two")?;
    let block = look(&mut volume, |seen| Ok(seen.group(0)?.root(which).block.get()))?;
    fail_and_use(volume, block)
}

pub fn extent_map(device: &Path) -> Result<String> {
    let mut volume = Volume::open(device)?;
    for extent in 0..300 {
        volume.write("sparse", extent * 8192, &[0x11; PAGE])?;
    }
    let inode = volume.file("sparse")?.inode();
    let before = volume.read("sparse")?;
    let block = look(&mut volume, |seen| Ok(seen.inode(inode)?.data.tree.block.get()))?;
    fail(&volume, block)?;
    if volume.read("sparse")? == before { use_it(volume) } else { Ok("the file reads otherwise".to_owned()) }
}

pub fn journal(device: &Path) -> Result<String> {
    let mut volume = Volume::open(device)?;
    let block = look(&mut volume, |seen| Ok(seen.geometry.journal().start))?;
    fail_and_use(volume, block)
}

/// All of the journal fails, so that it is not asked which half has the last transaction.
pub fn journal_in_use(device: &Path) -> Result<String> {
    let mut volume = Volume::open(device)?;
    let blocks = look(&mut volume, |seen| Ok(seen.geometry.journal()))?;
    volume.write("one", 0, &[0x11; BYTES])?;
    volume.file("one")?.sync()?;
    blocks.into_iter().try_for_each(|block| fail(&volume, block))?;
    use_it(volume)
}

/// What is seen of a volume when it is clean; it is opened again then.
fn look<T>(volume: &mut Volume, see: impl FnOnce(&volume::Volume<Device>) -> Result<T>) -> Result<T> {
    volume.remount()?;
    let device = Device::open(volume.path(), Access::ReadOnly)?;
    let found = volume::find(&device)?;
    see(&volume::Volume::new(device, found.superblock, found.geometry))
}

/// Has a block fail where the engine itself has it mapped.
fn fail(volume: &Volume, block: u64) -> Result<()> {
    let base = poison::mapping_of(volume.path())?;
    poison::at(base.wrapping_add(usize::try_from(block)? * PAGE))
}

fn fail_and_use(volume: Volume, block: u64) -> Result<String> {
    fail(&volume, block)?;
    use_it(volume)
}

/// Whether a volume goes on; how many blocks are recorded as bad, and what a check says.
fn use_it(mut volume: Volume) -> Result<String> {
    let bytes = [0x33; BYTES];
    volume.write("new", 0, &bytes)?;
    volume.clone("new", "copy")?;
    volume.write("copy", 0, &[0x44; 100])?;
    volume.remove("copy")?;
    synced(&volume)?;
    volume.remount()?;
    if volume.read("new")? != bytes {
        return Err("what was written does not read".into());
    }
    let bad = volume.bad()?;
    let path = volume.path().to_owned();
    volume.close()?;
    run(&format!("fsck.paxfs -nf {}", path.display()), 0)?;
    Ok(format!("goes on; {bad} bad; clean"))
}

/// All that is mapped at once fails.
pub fn a_unit(device: &Path) -> Result<String> {
    poison::listen();
    let mut volume = Volume::open(device)?;
    let bytes = vec![0x11; 2 << 20];
    volume.write("one", 0, &bytes)?;
    volume.remount()?;
    let told = hear(&volume)?;
    let view = volume.file("one")?.map(0..bytes.len() as u64, Sharing::Shared)?;
    let page = view.address().ok_or("no address")?.as_ptr().wrapping_add(LOST);
    poison::load(page);
    poison::at(page)?;
    let byte = poison::load(page);
    let is_told = !told.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    let is_whole = byte == 0x11 && volume.read("one")? == bytes;
    Ok(match (is_told, is_whole) {
        (false, true) => "nobody, and all of it reads".to_owned(),
        _ => format!("{told:?}; it shows {byte:#04x}; all of it reads: {is_whole}"),
    })
}

/// A page of a file is bad, and does not heal.
pub fn stays_bad(device: &Path) -> Result<String> {
    let mut volume = Volume::open(device)?;
    volume.write("file", 0, &[0x11; BYTES])?;
    let block = volume.first_block("file")? + (LOST / PAGE) as u64;
    volume.close()?;
    poison::list(device, block)?;
    volume = Volume::open(device)?;
    let before = read(&volume, "file")?;
    volume.file("file")?.write_at(LOST as u64, &[0x22; PAGE])?;
    synced(&volume)?;
    volume.remount()?;
    let text = format!("{before}; {}; {} bad", read(&volume, "file")?, volume.bad()?);
    volume.close()?;
    Ok(text)
}

/// A free block is bad, as the kernel's list says, and all that is free is written to.
pub fn is_not_given_out(device: &Path) -> Result<String> {
    let mut volume = Volume::open(device)?;
    let block = free_block(&mut volume)?;
    volume.close()?;
    poison::list(device, block)?;
    volume = Volume::open(device)?;
    volume.engine()?.report_media_errors(&poison::listed(device)?, device)?;
    let piece = vec![0x55; 1 << 20];
    let mut written = 0;
    while volume.write("fill", written, &piece).is_ok() {
        written += piece.len() as u64;
    }
    volume.free()?;
    volume.remount()?;
    let all = volume.read("fill")?;
    let is_there = all.len() as u64 >= written && all.iter().all(|byte| *byte == 0x55);
    let text =
        format!("{}; {} bad", if is_there { "all of it reads" } else { "NOT all reads" }, volume.bad()?);
    volume.close()?;
    Ok(text)
}

/// Makes all durable. That something was lost is said once.
fn synced(volume: &Volume) -> Result<()> {
    let engine = volume.engine()?;
    match engine.sync() {
        Err(Error::LostWrites(_)) => Ok(engine.sync()?),
        done => Ok(done?),
    }
}
