//! A full disk: 503 until there is room, then service without a restart.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::node::{Node, eventually, fresh_folder};

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// Needs root; `None` where mounting is not allowed, which CI must not pass over.
    fn mount(path: std::path::PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&path).expect("a mount point");
        let option = format!("size={size}");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(&path).status();
        let mounted = status.is_ok_and(|s| s.success()).then_some(Self(path));
        assert!(mounted.is_some() || std::env::var_os("CI").is_none(), "CI cannot mount a disk");
        mounted
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_disk_with_little_room_answers_503_and_recovers_without_a_restart() {
    fill_and_free("32MiB");
}

/// Without a reserve the store's own writes fail, and it must be opened again underneath.
#[test]
fn a_disk_without_any_room_answers_503_and_recovers_without_a_restart() {
    fill_and_free("0B");
}

fn fill_and_free(min_free: &str) {
    let folder = fresh_folder();
    let Some(disk) = SmallDisk::mount(folder.join("disk"), "512m") else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let config = folder.join("small.toml");
    fs::write(&config, format!("[storage]\nmin_free = \"{min_free}\"\n")).expect("a file");
    let extra = ["--config", config.to_str().expect("a path")];
    let node = Node::start_in(folder, disk.0.join("data"), &extra);
    let shop = node.organization();
    shop.decide(&shop.purchase("before", 100));

    let ballast = disk.0.join("ballast");
    let full = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "count=600", &format!("of={}", ballast.display())])
        .stderr(std::process::Stdio::null())
        .status();
    assert!(!full.expect("dd runs").success(), "the disk is not full");
    let mut tries = 0;
    let refused = eventually("a refusal", || {
        tries += 1;
        let mut event = shop.purchase(&format!("during_{tries}"), 100);
        // Large, so that what the journal has set aside is soon used up.
        event["metadata"] = json!({"x": "x".repeat(12_000)});
        let events: Vec<_> = (0..60).map(|_| event.clone()).collect();
        let (status, body) = shop.post("/events/ingest/batch", &json!(events));
        (status != 202).then_some((status, body))
    });
    assert_eq!(refused.0, 503, "{}", refused.1);

    fs::remove_file(&ballast).expect("the ballast");
    eventually("room again", || {
        (shop.post("/events/ingest", &shop.purchase("after", 100)).0 == 202).then_some(())
    });
    let event = shop.decide(&shop.purchase("after", 100));
    assert_eq!(event["decision"]["code"], "rewarded", "{event}");
    drop(node);
    drop(disk);
}
