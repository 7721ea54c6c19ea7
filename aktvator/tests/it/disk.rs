//! A full disk: 503 until there is room, then service without a restart.

use std::fs;
use std::process::Command;

use crate::node::{Node, eventually, fresh_folder};

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// Needs root; `None` where mounting is not allowed.
    fn mount(path: std::path::PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&path).expect("a mount point");
        let option = format!("size={size}");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(&path).status();
        status.is_ok_and(|s| s.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_answers_503_and_recovers_without_a_restart() {
    let folder = fresh_folder();
    let Some(disk) = SmallDisk::mount(folder.join("disk"), "512m") else {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    };
    let config = folder.join("small.toml");
    fs::write(&config, "[storage]\nmin_free = \"32MiB\"\n").expect("a file");
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
    let refused = eventually("a refusal", || {
        let (status, body) = shop.post("/events/ingest", &shop.purchase("during", 100));
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
