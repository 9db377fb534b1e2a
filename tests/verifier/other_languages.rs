//! `verifier-wasm/docs/other-languages.md`: each snippet, as it stands on the page, judges the shared vectors as the
//! verifier crate does (but for [`LENIENT_ABOUT`]), and without an error that would answer a forger with a 500.

use std::{
    fs::{self, File},
    io::{Write, stderr},
    path::Path,
    process::{Command, Output},
    time::SystemTime,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use revnoxa_verifier::StandardKey;
use serde_json::Value;
use tempfile::TempDir;

/// How a snippet is run: a driver reads a case from each line of its standard input and prints `ok` or `refused`.
struct Language {
    /// The snippet's `file=` on the page.
    snippet: &'static str,
    /// What stands beside the snippet: names and texts.
    beside: &'static [(&'static str, &'static str)],
    /// A line of shell that compiles, where the language needs it, and runs the driver.
    run: &'static str,
    /// What has to be on the `PATH` for that, and the Debian package that brings it.
    needs: &'static [(&'static str, &'static str)],
}

#[test]
fn python() {
    judges_as_the_vectors(&Language {
        snippet: "verify.py",
        beside: &[("main.py", include_str!("drivers/main.py"))],
        run: "python3 main.py",
        needs: &[("python3", "python3")],
    });
}

#[test]
fn go() {
    judges_as_the_vectors(&Language {
        snippet: "webhook/verify.go",
        beside: &[("go.mod", "module receiver\n\ngo 1.19\n"), ("main.go", include_str!("drivers/main.go"))],
        run: "go run .",
        needs: &[("go", "golang-go")],
    });
}

#[test]
fn ruby() {
    judges_as_the_vectors(&Language {
        snippet: "verify.rb",
        beside: &[("main.rb", include_str!("drivers/main.rb"))],
        run: "ruby main.rb",
        needs: &[("ruby", "ruby")],
    });
}

#[test]
fn php() {
    judges_as_the_vectors(&Language {
        snippet: "verify.php",
        beside: &[("main.php", include_str!("drivers/main.php"))],
        run: "php -d display_errors=stderr main.php",
        needs: &[("php", "php-cli")],
    });
}

#[test]
fn java() {
    judges_as_the_vectors(&Language {
        snippet: "Webhook.java",
        beside: &[("Main.java", include_str!("drivers/Main.java"))],
        run: "javac Webhook.java Main.java && java -XX:TieredStopAtLevel=1 Main",
        needs: &[("javac", "default-jdk-headless"), ("java", "default-jdk-headless")],
    });
}

#[test]
fn csharp() {
    judges_as_the_vectors(&Language {
        snippet: "Webhook.cs",
        beside: &[("Main.cs", include_str!("drivers/Main.cs"))],
        run: "mcs Webhook.cs Main.cs -out:main.exe && mono main.exe",
        needs: &[("mcs", "mono-mcs"), ("mono", "mono-mcs")],
    });
}

#[test]
fn bash() {
    judges_as_the_vectors(&Language {
        snippet: "verify.bash",
        beside: &[("main.bash", include_str!("drivers/main.bash"))],
        run: "bash main.bash",
        needs: &[("bash", "bash"), ("openssl", "openssl")],
    });
}

#[test]
fn the_command_by_hand_prints_what_the_page_says() {
    let page = page();
    let (_, block) = page.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let (_, expected) = block.split_once("\n# ").unwrap();
    assert_eq!(String::from_utf8(succeed(shell(block, Path::new("."))).stdout).unwrap(), expected);
}

fn judges_as_the_vectors(language: &Language) {
    if !is_runnable(language) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let snippet = (language.snippet, &*snippet(language.snippet));
    for (name, text) in language.beside.iter().chain([&snippet]) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let cases = cases();
    let lines: String = cases.iter().map(Case::line).collect();
    fs::write(folder.path().join("cases"), lines).unwrap();

    let mut command = shell(language.run, folder.path());
    command.stdin(File::open(folder.path().join("cases")).unwrap());
    let output = succeed(command);
    let printed = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<&str> = printed.lines().collect();
    assert_eq!(verdicts.len(), cases.len(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let wrong = |(case, verdict): (&Case, &str)| {
        let expected = if case.genuine { "ok" } else { "refused" };
        (verdict != expected).then(|| format!("{} {}: {verdict}, not {expected}", case.scheme, case.why))
    };
    let wrong: Vec<String> = cases.iter().zip(verdicts).filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{}:\n{}", language.snippet, wrong.join("\n"));
}

/// Whether the machine has what the language needs. If not, says so; in CI it fails.
#[expect(clippy::explicit_write, reason = "libtest does not show what a test that passes prints with eprintln")]
fn is_runnable(language: &Language) -> bool {
    let is_found = |program| shell(&format!("command -v {program}"), Path::new(".")).output().unwrap().status.success();
    let Some((program, package)) = language.needs.iter().find(|(program, _)| !is_found(program)) else { return true };
    let skipped = format!("SKIPPED {}: no {program} here; apt-get install {package}", language.snippet);
    assert!(std::env::var_os("CI").is_none(), "{skipped}");
    writeln!(stderr(), "{skipped}").unwrap();
    false
}

fn shell(script: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    // A locale in which a range of letters could mean more than its bytes.
    command.args(["-c", script]).current_dir(folder).env("LC_ALL", "C.UTF-8");
    command
}

fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    output
}

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier-wasm/docs/other-languages.md");
    fs::read_to_string(page).unwrap()
}

fn snippet(file: &str) -> String {
    let page = page();
    let (_, rest) = page.split_once(&format!(" file={file}\n")).unwrap_or_else(|| panic!("no {file} on the page"));
    rest.split_once("```\n").unwrap().0.to_owned()
}

struct Case {
    why: String,
    /// `standard` or `body`.
    scheme: &'static str,
    secret: String,
    id: Vec<u8>,
    timestamp: Vec<u8>,
    signature: Vec<u8>,
    body: Vec<u8>,
    /// Unix seconds; empty for the clock's.
    now: String,
    genuine: bool,
}

impl Case {
    fn line(&self) -> String {
        let headers = [&self.id[..], &self.timestamp, &self.signature];
        let fields =
            [&[self.scheme.as_bytes(), self.now.as_bytes(), self.secret.as_bytes()], &headers[..], &[&self.body]];
        let hex = |field: &&[u8]| field.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        fields.concat().iter().map(hex).collect::<Vec<_>>().join(":") + "\n"
    }
}

/// The vectors that a receiver with one secret and the usual tolerance can judge, and what they do not hold.
fn cases() -> Vec<Case> {
    let standard: Value = serde_json::from_str(include_str!("../vectors/standard.json")).unwrap();
    let body: Value = serde_json::from_str(include_str!("../vectors/signature.json")).unwrap();
    let is_usual = |case: &&Value| case["secrets"].as_array().unwrap().len() == 1 && case["tolerance_s"] == 300;
    let mut cases: Vec<Case> = array(&standard, "cases")
        .iter()
        .filter(is_usual)
        .map(standard_case)
        .chain(array(&body, "cases").iter().map(body_case))
        .collect();
    assert!(cases.len() > 130, "the vectors were cut");
    let is_refused = |case: &&Value| case["why"] != LENIENT_ABOUT;
    cases.extend(array(&standard, "invalid_secrets").iter().filter(is_refused).map(invalid_secret));
    cases.push(request());
    cases.push(unset_secret_for_the_body());
    cases.extend(by_the_clock());
    cases.extend(careless());
    cases
}

fn standard_case(case: &Value) -> Case {
    Case {
        why: text(case, "why"),
        scheme: "standard",
        secret: case["secrets"][0].as_str().unwrap().to_owned(),
        id: text(case, "id").into(),
        timestamp: text(case, "timestamp").into(),
        signature: text(case, "signature").into(),
        body: body(case),
        now: case["now_s"].to_string(),
        genuine: case["result"] == "ok",
    }
}

fn body_case(case: &Value) -> Case {
    Case {
        why: text(case, "why"),
        scheme: "body",
        secret: text(case, "secret"),
        id: Vec::new(),
        timestamp: Vec::new(),
        signature: text(case, "signature").into(),
        body: body(case),
        now: String::new(),
        genuine: case["accepted"].as_bool().unwrap(),
    }
}

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const BODY: &[u8] = br#"{"id":"evt_01"}"#;

/// A request at 1767225600, signed with [`SECRET`] unless its fields say otherwise.
fn request() -> Case {
    Case {
        why: "the request that the other cases change".to_owned(),
        scheme: "standard",
        secret: SECRET.to_owned(),
        id: "evt_01".into(),
        timestamp: "1767225600".into(),
        signature: sign(1_767_225_600).into(),
        body: BODY.to_owned(),
        now: "1767225600".to_owned(),
        genuine: true,
    }
}

fn sign(timestamp_s: i64) -> String {
    StandardKey::parse(SECRET).unwrap().sign("evt_01", timestamp_s, BODY).as_str().to_owned()
}

/// The one deviation: a receiver's own secret in a spelling that no host makes, which most base64 decoders take for
/// the key whose bits it has (here all zeros, to HMAC the same as none). No signature that is wrong for that key passes.
const LENIENT_ABOUT: &str = "bits set beyond the last byte";

/// Signed by what a lenient reader could take the secret for: the key that it is a misspelling of, or the empty key.
fn invalid_secret(case: &Value) -> Case {
    let by_the_empty_key = "v1,eCgjD22gnD5krytFsusMoo/F9URVA4vVxRbPM8ma+mQ=";
    Case {
        why: text(case, "why"),
        secret: text(case, "secret"),
        signature: format!("{} {by_the_empty_key}", sign(1_767_225_600)).into(),
        genuine: false,
        ..request()
    }
}

fn unset_secret_for_the_body() -> Case {
    Case {
        why: "the secret is not set; anybody can sign with the empty key".to_owned(),
        scheme: "body",
        secret: String::new(),
        signature: "36dc9386b8380bbee0a1b4a7399edaed648ea4bcb79c7e658a20652db605f28c".into(),
        genuine: false,
        ..request()
    }
}

/// Without `now`, the machine's clock counts. The margins leave a busy machine two minutes to run a language.
fn by_the_clock() -> impl Iterator<Item = Case> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    [(-180, true), (180, true), (-301, false), (421, false)].into_iter().map(move |(offset, genuine)| Case {
        why: format!("the clock's now, {offset} s"),
        timestamp: (now + offset).to_string().into(),
        signature: sign(now + offset).into(),
        now: String::new(),
        genuine,
        ..request()
    })
}

/// Headers on which a careless reader stops with an error: not UTF-8, which JSON cannot hold, or digits of two scripts.
fn careless() -> [Case; 4] {
    let refused = |why: &str| Case { why: why.to_owned(), genuine: false, ..request() };
    [
        Case { id: b"\xe9vt_01".to_vec(), ..refused("an id that is not UTF-8") },
        Case { timestamp: b"1767225600\xff".to_vec(), ..refused("a timestamp that is not UTF-8") },
        Case { signature: b"v1,\xff\xc3".to_vec(), ..refused("a signature that is not UTF-8") },
        Case { timestamp: "176722560\u{660}".into(), ..refused("an Arabic-Indic digit after others") },
    ]
}

fn array<'v>(vectors: &'v Value, key: &str) -> &'v [Value] {
    vectors[key].as_array().unwrap()
}

fn text(case: &Value, key: &str) -> String {
    case[key].as_str().unwrap_or_else(|| panic!("no {key} in {case}")).to_owned()
}

fn body(case: &Value) -> Vec<u8> {
    match case["body_base64"].as_str() {
        Some(base64) => BASE64_STANDARD.decode(base64).unwrap(),
        None => text(case, "body").into(),
    }
}
