//! A real browser: headless Chromium, directed over its DevTools protocol.
//!
//! One browser is one process group with a profile of its own in a temporary directory; both go with the [`Browser`].
//! What the page complains of (errors, refused loads, exceptions) is collected and asked for with
//! [`Browser::complaints`].

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::waiting::{LIMIT, wait_for};

/// The names under which it is found in `PATH`.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    profile: TempDir,
    socket: WebSocket<TcpStream>,
    session: String,
    last_id: u64,
    complaints: Vec<String>,
}

/// The browser on this machine: `$WEMIXVISOR_BROWSER`, else Chromium from `PATH`. `None`: there is none, which is said
/// in one line on standard error.
///
/// # Panics
/// When it is missing and `WEMIXVISOR_REQUIRE_BROWSER` is `1`.
pub fn browser() -> Option<PathBuf> {
    let named = env::var_os("WEMIXVISOR_BROWSER").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let found = named.filter(|program| program.is_file()).or_else(|| {
        let places = env::split_paths(&path).flat_map(|place| NAMES.map(|name| place.join(name)));
        places.into_iter().find(|program| program.is_file())
    });
    if found.is_none() {
        assert!(
            env::var_os("WEMIXVISOR_REQUIRE_BROWSER").is_none_or(|value| value != "1"),
            "a browser is required but not on this machine: scripts/install-browser"
        );
        let _ = writeln!(io::stderr(), "skipped: chromium is not on this machine");
    }
    found
}

impl Browser {
    /// Starts it with an empty page.
    pub fn start(program: &Path) -> Self {
        let profile = tempfile::Builder::new().prefix("wvb").tempdir().expect("a temporary directory");
        let log = fs::File::create(profile.path().join("browser.log")).expect("a log");
        let mut child = Command::new(program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-extensions", "--disable-background-networking", "--hide-scrollbars"])
            .args(["--remote-debugging-port=0", "--lang=en-GB", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // What it starts ends with it.
            .process_group(0)
            .spawn()
            .expect("the browser starts");
        let told = profile.path().join("DevToolsActivePort");
        let (port, path) = wait_for("the browser tells its port", LIMIT, || {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                let said = fs::read_to_string(profile.path().join("browser.log")).unwrap_or_default();
                panic!("the browser ended ({status}):\n{said}");
            }
            let text = fs::read_to_string(&told).ok()?;
            let (port, path) = text.split_once('\n')?;
            Some((port.parse::<u16>().ok()?, path.trim().to_owned()))
        });
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the browser listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let (socket, _) = client(format!("ws://127.0.0.1:{port}{path}"), stream).expect("a WebSocket");
        let mut browser =
            Self { child, profile, socket, session: String::new(), last_id: 0, complaints: Vec::new() };
        browser.new_page();
        browser
    }

    fn new_page(&mut self) {
        let page = self.order("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let session = self.order("Target.attachToTarget", attach);
        self.session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.order(&format!("{domain}.enable"), json!({}));
        }
        // A page in the background is slowed down and has no focus.
        self.order("Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        let answer = self.order("Page.navigate", json!({"url": url}));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        self.sees(
            &format!("{url} is loaded"),
            "document.readyState === 'complete' && location.href !== 'about:blank'",
        );
    }

    /// The value of a JavaScript expression; a promise is waited for.
    ///
    /// # Panics
    /// When it throws.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true});
        let answer = self.order("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer:#}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true (or an object, a number, a text); the answer is its value.
    pub fn sees(&mut self, what: &str, expression: &str) -> Value {
        wait_for(what, LIMIT, || {
            let value = self.value(expression);
            (!matches!(value, Value::Null | Value::Bool(false)) && value != "").then_some(value)
        })
    }

    /// Presses the button, link or summary that a CSS selector finds, in its middle, as a mouse does.
    pub fn click(&mut self, selector: &str) {
        let selector = json!(selector);
        let place = self.sees(
            &format!("{selector} can be pressed"),
            &format!(
                "(() => {{ const one = document.querySelector({selector}); if (!one || one.disabled) return null; \
                 one.scrollIntoView({{block: 'center', behavior: 'instant'}}); const box = one.getBoundingClientRect(); \
                 const at = [box.x + box.width / 2, box.y + box.height / 2]; const top = document.elementFromPoint(...at); \
                 return top && (one.contains(top) || top.contains(one)) ? at : null; }})()"
            ),
        );
        for kind in ["mousePressed", "mouseReleased"] {
            let press =
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.order("Input.dispatchMouseEvent", press);
        }
    }

    /// Types a text where the focus is.
    pub fn write(&mut self, text: &str) {
        self.order("Input.insertText", json!({"text": text}));
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            other => panic!("{other} is no key that is known here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut stroke = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                stroke["text"] = text.into();
            }
            self.order("Input.dispatchKeyEvent", stroke);
        }
    }

    /// Gives the window a size, in CSS pixels; below 600 it is a phone with a touch screen.
    pub fn size(&mut self, width: u32, height: u32) {
        let phone = width < 600;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone});
        self.order("Emulation.setDeviceMetricsOverride", size);
        self.order("Emulation.setTouchEmulationEnabled", json!({"enabled": phone}));
    }

    /// Prefers dark or light colours.
    pub fn dark(&mut self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]);
        self.order("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// The network is there, or it is not.
    pub fn online(&mut self, online: bool) {
        let how = json!({"offline": !online, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        self.order("Network.emulateNetworkConditions", how);
    }

    /// Writes what the window shows as a PNG.
    pub fn picture(&mut self, file: &Path) {
        let shot = self.order("Page.captureScreenshot", json!({"format": "png"}));
        let bytes = from_base64(shot["data"].as_str().expect("a picture"));
        fs::create_dir_all(file.parent().expect("a file in a directory")).expect("a directory");
        fs::write(file, bytes).expect("a picture can be written");
    }

    /// The nodes of the tree that a screen reader is given: role and name of each.
    pub fn read_aloud(&mut self) -> Vec<(String, String)> {
        let tree = self.order("Accessibility.getFullAXTree", json!({}));
        let text = |node: &Value, field: &str| node[field]["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let heard = nodes.iter().filter(|node| node["ignored"] != true);
        heard.map(|node| (text(node, "role"), text(node, "name"))).collect()
    }

    /// What the page complained of since this was asked last: `exception: …`, `security: …`, `network: …`.
    pub fn complaints(&mut self) -> Vec<String> {
        self.value("0"); // Whatever was sent before the answer has come.
        std::mem::take(&mut self.complaints)
    }

    fn order(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut order = json!({"id": self.last_id, "method": method, "params": params});
        if !self.session.is_empty() {
            order["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(order.to_string())).expect("the browser listens");
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: no answer: {error}"));
            let Message::Text(text) = message else { continue };
            let mut said: Value = serde_json::from_str(&text).expect("the browser speaks JSON");
            if said["id"] == self.last_id {
                assert!(said["error"].is_null(), "{method}: {}", said["error"]);
                return said["result"].take();
            }
            self.note(&said);
        }
    }

    fn note(&mut self, said: &Value) {
        let params = &said["params"];
        match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                let details = &params["exceptionDetails"];
                let text = details["exception"]["description"].as_str().or(details["text"].as_str());
                self.complaints.push(format!("exception: {}", text.unwrap_or_default()));
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                let text = |field: &str| params["entry"][field].as_str().unwrap_or_default().to_owned();
                self.complaints.push(format!("{}: {} {}", text("source"), text("text"), text("url")));
            }
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.complaints.push(format!("console: {}", params["args"]));
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- browser: {:#?}\n(profile {})", self.complaints, self.profile.path().display());
        }
        // Its status has not been collected, so the id is still its own.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        // The last of its processes may still be writing into the profile, which is removed next.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The bytes of a text in base64.
fn from_base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.extend_from_slice(&[(bits >> count) as u8]);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba"), ("/+8=", "\u{0}")]
        {
            let read = from_base64(text);
            if text == "/+8=" {
                assert_eq!(read, [0xff, 0xef]);
            } else {
                assert_eq!(read, bytes.as_bytes());
            }
        }
    }
}
