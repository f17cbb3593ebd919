//! Chromium without a window, driven by the `DevTools` protocol over a pipe.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

/// It takes seconds to start, and far longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const ARGUMENTS: [&str; 15] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--window-size=1280,1000",
];

/// A running browser with one page. It is killed, with all of its processes, when dropped.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    stdin: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    serial: u64,
    /// What the page did, as far as it was told: events with `method` and `params`.
    pub events: Vec<Value>,
    profile: PathBuf,
}

impl Browser {
    /// Starts it with a profile in `directory`.
    pub fn start(directory: &Path) -> Result<Self> {
        let profile = directory.join("chromium");
        fs::create_dir_all(&profile).context("make the profile of the browser")?;
        let log = fs::File::create(directory.join("chromium.log")).context("make chromium.log")?;
        // It reads commands from descriptor 3 and answers on 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "sh", "chromium"]);
        command.args(ARGUMENTS).arg(format!("--user-data-dir={}", profile.display()));
        command.arg("about:blank").env("HOME", &profile).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().with_context(|| format!("start {command:?}"))?;
        let stdin = process.stdin.take().context("input of the browser")?;
        let stdout = process.stdout.take().context("output of the browser")?;
        let (sender, messages) = channel();
        thread::spawn(move || {
            // Each message ends in a zero byte.
            for message in BufReader::new(stdout).split(0) {
                let parsed = message.ok().and_then(|text| serde_json::from_slice(&text).ok());
                let Some(message) = parsed else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (session, serial, events) = (None, 0, Vec::new());
        let mut browser = Self { process, stdin, messages, session, serial, events, profile };
        browser.attach()?;
        Ok(browser)
    }

    fn attach(&mut self) -> Result<()> {
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let id = &target["targetId"];
        let attached =
            self.call("Target.attachToTarget", &json!({ "targetId": id, "flatten": true }))?;
        let session = attached["sessionId"].as_str().context("a session with the page")?;
        self.session = Some(session.to_owned());
        for domain in ["Page", "Runtime", "Log", "Network", "Security"] {
            self.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    /// Calls a method of the protocol and returns its result.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.serial += 1;
        let id = self.serial;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.stdin
            .write_all(format!("{message}\0").as_bytes())
            .with_context(|| format!("send {method} to the browser"))?;
        let answer = self.wait_for(method, |message| message["id"] == id)?;
        ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        Ok(answer["result"].clone())
    }

    /// Waits for a message; events that come before it are kept.
    fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = match self.messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("the browser does not answer {what}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the browser ended during {what}"),
            };
            if message["method"].is_string() {
                self.events.push(message.clone());
            }
            if is_it(&message) {
                return Ok(message);
            }
        }
    }

    /// Opens a file and waits until it is there.
    pub fn open(&mut self, file: &Path) -> Result<()> {
        let before = self.events.len();
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", &json!({ "url": url }))?;
        let loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        if !self.events[before..].iter().any(loaded) {
            self.wait_for("the page", loaded)?;
        }
        Ok(())
    }

    /// The value of a JavaScript expression.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", &params)?;
        ensure!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        Ok(result["result"]["value"].clone())
    }

    /// Events of one method so far.
    pub fn events_of<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["method"] == method).map(|it| &it["params"])
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended; its helpers are in its process group.
        let _ = killpg(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGKILL);
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}
