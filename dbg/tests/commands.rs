//! The program as it is used: arguments, output, exit status, prompt.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use common::{command, dbg, features, json, printed, sample_file};
use std::io::Write;
use std::process::Stdio;

#[test]
fn owner_prints_each_owner_of_each_run() {
    let (_directory, image, truth) = sample_file(features("rmap,reflink"));
    let first = truth.files[&truth.inodes["greeting"]][0].start.get();
    let all = json(&["-J", &image, "owner", &format!("{first}..{}", first + 3)]);
    let greeting = ["/greeting", "/second-name"];
    let row = |start: u64, length: u64, name: &str, offset: u64, shared: u64, paths: &[&str]| {
        serde_json::json!({"start": start, "length": length, "role": "data", "inode": truth.inodes[name],
            "offset": offset, "shared": shared, "unwritten": false, "paths": paths})
    };
    let expected = serde_json::json!([
        row(first, 1, "greeting", 0, 2, &greeting),
        row(first, 1, "clone", 0, 2, &["/clone"]),
        row(first + 1, 1, "greeting", 4096, 3, &greeting),
        row(first + 1, 1, "clone", 4096, 3, &["/clone"]),
        row(first + 1, 1, "third", 7 * 4096, 3, &["/third"]),
        row(first + 2, 1, "greeting", 2 * 4096, 2, &greeting),
        row(first + 2, 1, "clone", 9 * 4096, 2, &["/clone"]),
    ]);
    let sorted = |value: &serde_json::Value| {
        let mut rows: Vec<_> = value.as_array().unwrap().iter().map(ToString::to_string).collect();
        rows.sort();
        rows
    };
    assert_eq!(sorted(&all["owners"]), sorted(&expected));
    let keys: Vec<_> = all["owners"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["start", "length", "role", "inode", "offset", "shared", "unwritten", "paths"]);

    let unwritten = truth.files[&truth.inodes["unwritten"]][0].start.get();
    let byte = json(&["-J", &image, "owner", &format!("@{:#x}", unwritten * 4096 + 5)]);
    assert_eq!(byte["owners"][0]["unwritten"], true);
    assert_eq!(byte["owners"][0]["offset"], 4096);
    let fixed = json(&["-J", &image, "owner", "0", "1"]);
    assert_eq!(
        fixed["owners"][0],
        serde_json::json!({"start": 0, "length": 1, "role": "superblock", "at": "sb"})
    );
    assert_eq!(fixed["owners"][1]["at"], "group[0]");
    assert_eq!(json(&["-J", &image, "owner", "9999999"])["owners"][0]["role"], "outside");
    let yaml: serde_json::Value = serde_yaml::from_str(&printed(&["-Y", &image, "owner", "0", "1"])).unwrap();
    assert_eq!(yaml, fixed);
}

#[test]
fn owner_names_what_is_in_metadata() {
    let (_directory, image, truth) = sample_file(features("rmap,reflink"));
    let inode = truth.inodes["greeting"];
    let block = json(&["-J", &image, "owner", &(inode / 8).to_string()]);
    let row = &block["owners"][0];
    assert_eq!(
        (row["role"].as_str(), row["at"].as_str()),
        (Some("inodes"), Some(&*format!("block[{}]", inode / 8)))
    );
    let mine = row["inodes"].as_array().unwrap().iter().find(|row| row["inode"] == inode).unwrap();
    assert_eq!(mine["paths"], serde_json::json!(["/greeting", "/second-name"]));
    let tree = json(&["-J", &image, "show", "inode[/pieces].extents.leaf[1]"]);
    let leaf = tree["offset"].as_u64().unwrap() / 4096;
    let owner = json(&["-J", &image, "owner", &leaf.to_string()]);
    assert_eq!(owner["owners"][0]["role"], "extent tree");
    assert_eq!(owner["owners"][0]["paths"], serde_json::json!(["/pieces"]));
}

#[test]
fn owner_of_bad_blocks() {
    let (directory, image, truth) = sample_file(features("rmap,reflink"));
    let pieces = &truth.files[&truth.inodes["pieces"]];
    let (one, two) = (pieces[7].start.get(), pieces[300].start.get());
    let list = directory.path().join("badblocks");
    std::fs::write(&list, format!("{} 1\n{} 3\n", one * 8 + 5, two * 8)).unwrap();
    let lines = json(&["-J", &image, "owner", "-B", list.to_str().unwrap()]);
    let offsets: Vec<_> =
        lines["owners"].as_array().unwrap().iter().map(|row| row["offset"].as_u64()).collect();
    assert_eq!(offsets, [Some(14 * 4096), Some(600 * 4096)]);
    let ndctl = format!(
        r#"[{{"dev":"namespace0.0","mode":"fsdax","blockdev":"pmem0","badblock_count":4,"badblocks":
           [{{"offset":{},"length":1}},{{"offset":{},"length":3,"dimms":["nmem0"]}}]}}]"#,
        one * 8 + 5,
        two * 8
    );
    std::fs::write(&list, ndctl).unwrap();
    assert_eq!(json(&["-J", &image, "owner", "-B", list.to_str().unwrap()]), lines);
    let mut child = command(&["-J", &image, "owner", "-B", "-"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(&list).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), lines);
}

/// A volume says itself what is bad on it, and who is hit by that.
#[test]
fn owner_of_what_is_recorded_as_bad() {
    let (directory, image, _) = sample_file(features("rmap,reflink"));
    assert_eq!(json(&["-J", &image, "owner", "-r"])["owners"], serde_json::json!([]));
    let recipe = directory.path().join("recipe.yaml");
    let text = "volume: {size: 4M, bad: [{start: 81, blocks: 1}, {start: 600, blocks: 2}]}\n\
                files: [{path: /file, size: 12k, seed: 1, at: 80}]\n";
    std::fs::write(&recipe, text).unwrap();
    let bad = directory.path().join("bad.img");
    let (device, _) = paxfs_mkfs::recipe::Recipe::read(&recipe).unwrap().image().unwrap();
    std::fs::write(&bad, device.bytes(0, 4 << 20).unwrap()).unwrap();
    let rows = json(&["-J", bad.to_str().unwrap(), "owner", "-r"]);
    let rows = rows["owners"].as_array().unwrap();
    let summary: Vec<_> = rows.iter().map(|row| (row["start"].as_u64(), row["role"].as_str())).collect();
    assert_eq!(summary, [(Some(81), Some("data")), (Some(600), Some("free"))]);
    assert_eq!(
        (&rows[0]["paths"], &rows[0]["offset"]),
        (&serde_json::json!(["/file"]), &serde_json::json!(4096))
    );
}

#[test]
fn owner_without_reverse_map_says_so() {
    let (_directory, image, truth) = sample_file(features("^rmap,^reflink"));
    let block = truth.files[&truth.inodes["greeting"]][0].start.get();
    let output = dbg(&[&image, "owner", &block.to_string()]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("/greeting"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no reverse map"));
}

#[test]
fn exit_statuses() {
    let (_directory, image, _) = sample_file(features("rmap,reflink"));
    let status = |arguments: &[&str]| dbg(arguments).status.code().unwrap();
    assert_eq!(status(&[&image, "sb"]), 0);
    assert_eq!(status(&["-V"]), 0);
    assert_eq!(status(&["--help"]), 0);
    assert_eq!(status(&[&image, "show", "sb.nothing"]), 1);
    assert_eq!(status(&["/nothing", "sb"]), 1);
    assert_eq!(status(&[&image, "owner", "x"]), 16);
    assert_eq!(status(&[&image, "owner"]), 16);
    assert_eq!(status(&[&image, "nothing"]), 16);
    assert_eq!(status(&[]), 16);
    assert_eq!(status(&[&image, "fuzz", "sb.label", "nothing"]), 16);
    assert_eq!(status(&["-J", "-Y", &image, "sb"]), 16);
    assert!(printed(&["-V"]).starts_with("dbg.paxfs "));
}

#[test]
fn looking_leaves_no_trace() {
    let (_directory, image, _) = sample_file(features("rmap,reflink"));
    let state = || {
        let metadata = std::fs::metadata(&image).unwrap();
        (std::fs::read(&image).unwrap(), metadata.modified().unwrap())
    };
    let before = state();
    for arguments in [
        &["sb"][..],
        &["sb", "1"],
        &["group"],
        &["group", "0"],
        &["group", "-c", "1"],
        &["owner", "0..6144"],
        &["tree", "rmap"],
        &["tree", "rmap", "0", "-n"],
        &["tree", "extents", "/pieces"],
        &["tree", "clusters"],
        &["tree", "extents", "/greeting"],
        &["tree", "directory", "/many"],
        &["tree", "attributes", "/many-attributes"],
        &["inode", "/greeting"],
        &["block", "1"],
        &["show", "inode[/greeting]"],
        &["diff", &image],
    ] {
        let mut all = vec![image.as_str()];
        all.extend(arguments);
        printed(&all);
        all.insert(0, "-J");
        json(&all);
    }
    assert!(before == state());
}

#[test]
fn a_field_is_set_and_its_difference_found() {
    let (directory, image, truth) = sample_file(features("rmap,reflink,csum"));
    let other = directory.path().join("other");
    std::fs::copy(&image, &other).unwrap();
    let other = other.to_str().unwrap();
    assert_eq!(json(&["-J", &image, "diff", other])["differences"], serde_json::json!([]));
    let inode = truth.inodes["greeting"];
    let set = json(&["-J", other, "set", "inode[/greeting].uid", "77"]);
    assert_eq!((set["before"].as_u64(), set["after"].as_u64()), (Some(1000), Some(77)));
    assert_eq!(set["path"], format!("inode[{inode}].uid"));
    printed(&[other, "fuzz", "rmap[0].leaf[0].rec[2].offset", "lastbit", "-c", "break"]);
    printed(&[other, "set", "sum[900].state", "open"]);
    printed(&[other, "set", "sb.label", "\"new name\"", "--csum", "keep"]);
    let found = json(&["-J", &image, "diff", other]);
    let paths: Vec<_> = found["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["path"].as_str().unwrap().to_owned())
        .collect();
    let leaf = json(&["-J", &image, "show", "rmap[0].leaf[0]"])["offset"].as_u64().unwrap() / 4096;
    let expected = [
        "block[0].label".to_owned(),
        "sum[900].state".to_owned(),
        format!("inode[{inode}].header.crc"),
        format!("inode[{inode}].uid"),
        format!("block[{leaf}].header.crc"),
        format!("block[{leaf}].rec[2].offset"),
    ];
    let mut sorted = paths.clone();
    sorted.sort();
    let mut wanted = expected.to_vec();
    wanted.sort();
    assert_eq!(sorted, wanted);
    for path in &paths {
        printed(&[&image, "show", path]);
    }
    // Block 0 does not fit its checksum: the copy is used, and said so.
    let output = dbg(&[other, "show", "inode[/greeting].uid"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "77\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("using the superblock copy"));
    assert!(printed(&[other, "show", "rmap[0].leaf[0]"]).contains("checksum is 0x"));
}

#[test]
fn a_copy_of_the_superblock_can_be_chosen() {
    let (_directory, image, _) = sample_file(features("rmap,reflink"));
    assert_eq!(json(&["-J", "-b", "1", &image, "sb", "1"])["fault"], serde_json::Value::Null);
    let output = dbg(&["-b", "7", &image, "sb"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("group 7"));
}

#[test]
fn commands_from_standard_input() {
    let (_directory, image, _) = sample_file(features("rmap,reflink"));
    let run = |lines: &str| {
        let mut child = command(&[&image]);
        let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = run(
        "# a comment\n\nshow inode[/greeting].uid\nshow 'inode[/greeting].size'\nquit\nshow sb.nothing\n",
    );
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000\n16384\n");
    let output =
        run("set inode[/greeting].uid 5\nshow inode[/greeting].uid -J\nshow sb.nothing\nshow sb.groups\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"value\": 5"));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("2\n"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 3: no `nothing` in `sb`"));
    assert!(String::from_utf8_lossy(&run("help\n").stdout).contains("owner"));
}
