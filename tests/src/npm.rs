use std::{fs::File, path::Path, process::Command, time::SystemTime};

/// The test crate's directory, with the npm packages of its lock file installed (once, by `npm ci`).
pub(crate) fn directory() -> &'static Path {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = dir.join("package-lock.json");
    // Tests run in many threads and processes; the first one installs, the others wait for it.
    let lock = File::open(&wanted).unwrap();
    lock.lock().unwrap();
    if written_at(&dir.join("node_modules/.package-lock.json")) < written_at(&wanted) {
        let installed = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(dir)
            .output()
            .expect("the tests need Node.js (>= 20) with npm on the PATH");
        assert!(installed.status.success(), "npm ci: {}", String::from_utf8_lossy(&installed.stderr));
    }
    dir
}

/// `None`, which is before every time: it is not there.
fn written_at(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|file| file.modified()).ok()
}
