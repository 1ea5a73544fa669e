//! Volumes from recipes, read back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod common;

use common::verify;
use paxfs_mkfs::recipe::Recipe;

fn recipe(text: &str) -> Recipe {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// The error that a recipe gives, at whatever stage.
fn refused(text: &str) -> String {
    match text.parse::<Recipe>() {
        Err(error) => error.to_string(),
        Ok(recipe) => recipe.image().expect_err("a refusal").to_string(),
    }
}

#[test]
fn an_empty_volume_of_every_kind() {
    for size in ["4M", "5000000", "7M", "64M", "129M"] {
        for features in ["", "^reflink", "^reflink,^rmap", "csum", "csum,^reflink", "csum,^reflink,^rmap"] {
            for groups in [1, 2, 3] {
                let text = format!("volume: {{size: {size}, features: '{features}', groups: {groups}}}");
                let Ok((device, summary)) = recipe(&text).image() else {
                    assert!(size != "64M" && groups > 1, "{text}");
                    continue;
                };
                assert_eq!(verify(&device).free, summary.totals.free_blocks, "{text}");
            }
        }
    }
}

#[test]
fn files_of_every_kind() {
    let text = r#"
volume: {size: 32M, features: csum, label: all, epoch: 1700000000}
files:
  - {path: /, mode: 0750, uid: 7}
  - {path: /random, size: 100001, seed: 5}
  - {path: /words, content: "hello {i}"}
  - {path: /ones, size: 8k, fill: 1}
  - {path: /hole, size: 1G}
  - {path: /cheese, size: 1M, seed: 2, holes: [{offset: 4k, length: 8k}, {offset: 512k, length: 512k}]}
  - {path: /half, size: 1M, seed: 2, unwritten: [{offset: 512k, length: 512k}]}
  - {path: /pieces, size: 400k, seed: 3, fragments: 100}
  - {path: /there, size: 8k, seed: 4, at: 5000}
  - path: /exact
    seed: 6
    extents:
      - {offset: 0, blocks: 2, at: 5010}
      - {offset: 2, blocks: 2, at: 5020}
      - {offset: 10, blocks: 4, unwritten: true}
      - {offset: 20, blocks: 1, like: /random, from: 3}
  - {path: /clone, reflink: {of: /random}}
  - {path: /part, size: 64k, fill: 9, reflink: [{of: /random, offset: 8k, length: 8k, to: 4k}, {of: /random, offset: 8k, length: 4k}]}
  - {path: /dir/link, link: /words}
  - {path: '/raw\xff\x0a', content: x}
  - {path: /sym, target: /words}
  - {path: /fifo, type: fifo, mode: 0600, mtime: "12.5"}
  - {path: /socket, type: socket}
  - {path: /disk, type: block, device: [8, 17], mode: 0660, gid: 6}
  - {path: /tty, type: character, device: [4, 1000000]}
  - {path: /attrs, xattrs: {user.a: b, user.long: {size: 64k, seed: 1}, user.hex: {hex: 00ff}, user.empty: ''}}
  - {path: /flags, flags: [immutable, nocsum], size: 4k, seed: 1, generation: 9}
  - {path: /open, size: 4k, seed: 1, sums: open}
"#;
    let (device, summary) = recipe(text).image().unwrap();
    let verified = verify(&device);
    assert_eq!(verified.names.len() as u64 + 1, verified_count(&summary) + 1);
    assert_eq!(verified.read(&device, b"/words"), b"hello 0");
    assert_eq!(verified.read(&device, b"/ones"), vec![1; 8192]);
    let random = verified.read(&device, b"/random");
    assert_eq!(random.len(), 100_001);
    assert_eq!(verified.read(&device, b"/clone"), random);
    let part = verified.read(&device, b"/part");
    assert_eq!(part[..4096], random[8192..12288]);
    assert_eq!(part[4096..12288], random[8192..16384]);
    assert!(part.len() == 65536 && part[12288..].iter().all(|byte| *byte == 9));
    let exact = verified.read(&device, b"/exact");
    assert_eq!(exact[20 * 4096..], random[3 * 4096..4 * 4096]);
    assert_eq!(verified.inode(&device, b"/hole").size.get(), 1 << 30);
    assert_eq!(verified.extents[&verified.names[b"/hole".as_slice()]], []);
    assert_eq!(verified.extents[&verified.names[b"/pieces".as_slice()]].len(), 100);
    assert_eq!(verified.extents[&verified.names[b"/there".as_slice()]][0].start.get(), 5000);
    assert_eq!(verified.extents[&verified.names[b"/exact".as_slice()]].len(), 4);
    assert_eq!(verified.names[b"/dir/link".as_slice()], verified.names[b"/words".as_slice()]);
    assert!(verified.names.contains_key(b"/raw\xff\n".as_slice()));
    assert_eq!(verified.target(&device, b"/sym"), b"/words");
    let fifo = verified.inode(&device, b"/fifo");
    assert_eq!((fifo.mode.get(), fifo.modified.seconds.get()), (0o010_600, 12));
    assert_eq!((fifo.modified.nanoseconds.get(), fifo.accessed.seconds.get()), (500_000_000, 1_700_000_000));
    let disk = verified.inode(&device, b"/disk");
    assert_eq!((disk.major.get(), disk.minor.get(), disk.gid.get()), (8, 17, 6));
    let attributes = verified.xattrs(&device, b"/attrs");
    assert_eq!(attributes[b"user.hex".as_slice()], [0, 255]);
    assert_eq!(attributes[b"user.long".as_slice()].len(), 65536);
    assert_eq!(attributes.len(), 4);
    assert_eq!(verified.inode(&device, b"/flags").generation.get(), 9);
}

/// Names in a volume, the root left out.
fn verified_count(summary: &paxfs_mkfs::summary::Summary) -> u64 {
    let totals = &summary.totals;
    // One file has two names.
    totals.files + totals.directories + totals.symlinks + totals.others
}

#[test]
fn what_no_healthy_program_makes() {
    let text = "
volume:
  size: 8M
  state: dirty
  freed: [3, 4]
  bad: [{start: 900, blocks: 5}, {start: 600, blocks: 1}]
  journal:
    - {sequence: 2, blocks: [1], stale: true}
    - {sequence: 3, blocks: [1, 2], state: torn}
files:
  - {path: /gone, orphan: true, size: 12k, seed: 1}
  - {path: /kept, reflink: {of: /gone}}
";
    let (mut device, summary) = recipe(text).image().unwrap();
    assert_eq!(summary.options.state, 0);
    let geometry = summary.options.geometry;
    let header = paxfs_format::header::Seed::new(&summary.options.uuid);
    let journal = geometry.journal();
    let bytes = device.bytes(journal.start * 4096, ((journal.end - journal.start) * 4096) as usize).unwrap();
    let replay = paxfs_format::journal::replay(bytes, [None; 2], &geometry, header, 1);
    assert_eq!(replay.live.len(), 1);
    assert_eq!(replay.live[0].sequence, 2);
    let write = replay.live[0].writes[0];
    let mut block = [0; 4096];
    write.apply(&mut block);
    assert!(device.block(1).unwrap().iter().all(|byte| *byte == 0));
    device.bytes_mut(4096, 4096).unwrap().copy_from_slice(&block);
    let verified = verify(&device);
    assert_eq!(verified.orphans.len(), 1);
    assert_eq!(verified.read(&device, b"/kept").len(), 12288);
}

#[test]
fn directories_of_all_sizes() {
    for count in [0, 1, 5, 6, 7, 100, 101, 5000, 100_000] {
        let text = format!(
            "volume: {{size: 128M}}\nfiles: [{{path: /d/}}, {{path: '/d/file-number-{{i}}', repeat: {count}}}]"
        );
        let (device, _) = recipe(&text).image().unwrap();
        let verified = verify(&device);
        assert_eq!(verified.names.len(), count + 1);
        assert_eq!(verified.inode(&device, b"/d").data.count.get(), count as u64);
    }
}

#[test]
fn long_names_and_targets() {
    let name = "n".repeat(255);
    for length in [1, 100, 216, 217, 280, 281, 4056, 4057, 4095] {
        let target = "t".repeat(length);
        let text = format!(
            "volume: {{size: 8M}}\nfiles: [{{path: /{name}, content: x}}, {{path: /s, target: {target}}}, \
             {{path: /{}, target: {target}}}]",
            "s".repeat(255)
        );
        let (device, _) = recipe(&text).image().unwrap();
        let verified = verify(&device);
        assert_eq!(verified.target(&device, b"/s"), target.as_bytes());
    }
    assert!(refused("volume: {size: 8M}\nfiles: [{path: /s, target: ''}]").contains("1 to 4095"));
    assert!(
        refused(r#"{volume: {size: 8M}, files: [{path: /s, target: 'a\x00b'}]}"#)
            .contains("none of which is 0")
    );
    let long = "t".repeat(4096);
    assert!(
        refused(&format!("volume: {{size: 8M}}\nfiles: [{{path: /s, target: {long}}}]")).contains("4095")
    );
    let long = "n".repeat(256);
    assert!(refused(&format!("volume: {{size: 8M}}\nfiles: [{{path: /{long}}}]")).contains("256 bytes"));
}

#[test]
fn many_names_of_one_file() {
    let text = "
volume: {size: 32M}
files:
  - {path: /one, content: x}
  - {path: '/d{i/100}/name-{i}', repeat: 10000, link: /one}
";
    let (device, _) = recipe(text).image().unwrap();
    let verified = verify(&device);
    assert_eq!(verified.inode(&device, b"/one").links.get(), 10_001);
}

#[test]
fn sharing_by_many() {
    let text = "
volume: {size: 256M, groups: 4}
files:
  - {path: /big, size: 40M, seed: 1, fragments: 10000}
  - {path: '/clone-{i}', repeat: 20, reflink: {of: /big}}
  - {path: '/piece-{i}', repeat: 50, reflink: {of: /big, offset: 1M, length: 4k}}
  - {path: /self, size: 4M, seed: 3}
  - {path: /twice, reflink: [{of: /self}, {of: /self, to: 4M}]}
";
    let (device, summary) = recipe(text).image().unwrap();
    let verified = verify(&device);
    let expected = 20 * 10240 + 50 + 2 * 1024;
    assert_eq!(summary.totals.saved_blocks, expected);
    let big = verified.read(&device, b"/big");
    assert!(verified.read(&device, b"/clone-13") == big);
    assert_eq!(verified.read(&device, b"/piece-3"), big[1 << 20..(1 << 20) + 4096]);
}

#[test]
fn a_full_volume_and_nearly_so() {
    // As many files as fit, found by trying: all images below are right, the first above is refused.
    let image = |files: u64| {
        recipe(&format!(
            "volume: {{size: 4M}}\nfiles: [{{path: '/f{{i}}', repeat: {files}, size: 12k, seed: 1}}]"
        ))
        .image()
    };
    let mut most = 0;
    for files in (0..400).step_by(7).chain(280..340) {
        match image(files) {
            Ok((device, _)) => {
                verify(&device);
                most = most.max(files);
            }
            Err(error) => assert!(error.to_string().contains("too small"), "{error}"),
        }
    }
    // 1024 blocks; 38 are fixed, some 60 in clusters.
    assert!(most > 290, "{most}");
    let text = "volume: {size: 64M}\nfiles: [{path: /a, size: 64M, seed: 1}]";
    assert!(refused(text).contains("16384 blocks of data"), "{}", refused(text));
}

#[test]
fn refusals_say_where_and_why() {
    for (text, why) in [
        ("volume: {size: 8M, colour: red}", "unknown field `colour`"),
        ("files: [{path: /a, sise: 1}]\n", "unknown field `sise`"),
        ("volume: {size: 8M}\nfiles:\n  - {path: /a, size: 12x}", "line 3"),
        ("volume: {size: 8M}\nfiles:\n  - {path: /a, mode: 644}", "leading 0"),
        ("files: []", "no size"),
        ("volume: {size: 8M, features: ^rmap}", "reflink needs the reverse map"),
        (
            "volume: {size: 8M, features: '^rmap,^reflink'}\nfiles: [{path: /a, reflink: {of: /b}}]",
            "-O rmap,reflink",
        ),
        ("volume: {size: 8M, features: speed}", "speed"),
        ("volume: {size: 1M}", "too small"),
        (
            "volume: {size: 8M}\nfiles: [{path: /a, reflink: {of: /b}}]",
            "files[0] (/a): \"/b\" is no regular file",
        ),
        (
            "volume: {size: 8M}\nfiles: [{path: /b, content: x}, {path: /a, size: 4k, reflink: {of: /b, to: 4k}}]",
            "behind",
        ),
        ("volume: {size: 8M}\nfiles: [{path: /a, reflink: {of: /b}}, {path: /b, content: x}]", "later"),
        ("volume: {size: 8M}\nfiles: [{path: /a}, {path: /a}]", "files[1] (/a): its path is taken"),
        ("volume: {size: 8M}\nfiles: [{path: '/a{i}', repeat: 3}, {path: /a1}]", "taken"),
        ("volume: {size: 8M}\nfiles: [{path: /a, size: 8k, seed: 1, fragments: 3}]", "fragments"),
        ("volume: {size: 8M}\nfiles: [{path: /a, size: 8k, seed: 1, at: 0}]", "not free"),
        ("volume: {size: 8M}\nfiles: [{path: /a, size: 8k, seed: 1, content: x}]", "told twice"),
        (
            "volume: {size: 8M}\nfiles: [{path: /u, unwritten: [{offset: 0, length: 4k}]}, {path: /a, extents: [{offset: 0, blocks: 1, like: /u}]}]",
            "cannot be unwritten",
        ),
        (
            "volume: {size: 8M}\nfiles: [{path: /a, size: 4k, extents: [{offset: 1, blocks: 1}]}]",
            "behind its `size`",
        ),
        (
            "volume: {size: 8M}\nfiles: [{path: /a, size: 4k, seed: 1, flags: [dax]}, {path: /b, reflink: {of: /a}}]",
            "alike",
        ),
        ("volume: {size: 8M}\nfiles: [{path: /a, size: 4k, seed: 1, sums: none}]", "nocsum"),
        ("volume: {size: 8M}\nfiles: [{path: /a, generation: 0}]", "counts from 1"),
        ("volume: {size: 8M, bad: [{start: 7, blocks: 2}, {start: 8, blocks: 1}]}", "overlap"),
        ("volume: {size: 8M, bad: [{start: 2047, blocks: 2}]}", "not within one group"),
        ("volume: {size: 8M, journal: [{sequence: 2, blocks: [40000]}]}", "outside"),
        (
            "volume: {size: 8M}\nfiles: [{path: /a, extents: [{offset: 0, blocks: 2}, {offset: 1, blocks: 1}]}]",
            "overlap",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn the_same_recipe_gives_the_same_bytes() {
    let text = "
volume: {size: 16M, features: csum}
files:
  - {path: '/d{i%10}/f{i}', repeat: 500, size: {from: 0, to: 20000}, seed: 1}
  - {path: /big, size: 5M, seed: 2}
";
    let image = || {
        let (device, _) = recipe(text).image().unwrap();
        verify(&device);
        device.bytes(0, 16 << 20).unwrap().to_vec()
    };
    assert!(image() == image());
}
