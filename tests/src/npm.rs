use std::{fs::File, path::Path, process::Command};

/// The test crate's directory, with its npm packages installed (once, by `npm ci`).
pub(crate) fn directory() -> &'static Path {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Tests run in many threads and processes; the first one installs, the others wait for it.
    let lock = File::open(dir.join("package-lock.json")).unwrap();
    lock.lock().unwrap();
    if !dir.join("node_modules/.package-lock.json").exists() {
        let installed = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(dir)
            .output()
            .expect("the signature checks need Node.js (>= 20) with npm on the PATH");
        assert!(installed.status.success(), "npm ci: {}", String::from_utf8_lossy(&installed.stderr));
    }
    dir
}
