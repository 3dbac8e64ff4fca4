use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::metrics::encode;

/// Takes what begins with `good`, and counts how often it is asked.
fn watched(place: Place) -> (Watched, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let watched = Watched::new(Input::Policy, place, move |files| {
        counter.fetch_add(1, Ordering::SeqCst);
        let text: Vec<String> = files
            .iter()
            .map(|(name, content)| format!("{name}={}", String::from_utf8_lossy(content)))
            .collect();
        let text = text.join(",");
        if text.contains("good") {
            Ok(text)
        } else {
            Err("it is bad".to_owned())
        }
    });
    (watched, asked)
}

struct Looks {
    watched: Watched,
    asked: Arc<AtomicUsize>,
    reports: Reports,
    metrics: Metrics,
    registry: prometheus_client::registry::Registry,
}

impl Looks {
    fn at(place: Place) -> Self {
        let (watched, asked) = watched(place);
        let mut registry = Metrics::registry();
        Self {
            watched,
            asked,
            reports: Reports::default(),
            metrics: Metrics::new(&mut registry),
            registry,
        }
    }

    fn look(&mut self) -> (Option<String>, Option<String>) {
        self.watched.look(&self.reports, &self.metrics);
        let Report { hash, problem } = self.reports.of(Input::Policy);
        (hash, problem)
    }

    fn good(&mut self, expected: &str) {
        assert_eq!(self.look(), (Some(expected.to_owned()), None));
    }

    /// What is there now is bad, and what was in force stays so.
    fn bad(&mut self, in_force: &str) {
        let (hash, problem) = self.look();
        assert_eq!(hash.as_deref(), Some(in_force));
        assert!(problem.is_some());
    }

    fn failures(&self) -> String {
        let text = encode(&self.registry).unwrap();
        let lines = text.lines().filter(|line| line.contains("input=\"policy\""));
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn a_file_is_taken_when_it_is_good_and_whatever_happens_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.json");
    let mut looks = Looks::at(Place::File(file.clone()));
    assert_eq!(looks.look().0, None, "not there yet");
    fs::write(&file, "good 1").unwrap();
    looks.good("=good 1");
    looks.good("=good 1");
    assert_eq!(looks.asked.load(Ordering::SeqCst), 1, "not taken again");
    fs::write(&file, "goo").unwrap();
    looks.bad("=good 1");
    looks.bad("=good 1");
    assert!(
        looks
            .failures()
            .contains("reload_failures_total{input=\"policy\"} 2"),
        "once each: {}",
        looks.failures()
    );
    assert!(looks.failures().contains("stale{input=\"policy\"} 1"));
    fs::write(&file, "").unwrap();
    looks.bad("=good 1");
    fs::write(&file, "good 1").unwrap();
    looks.good("=good 1");
    assert!(looks.failures().contains("stale{input=\"policy\"} 0"));
    fs::write(folder.path().join("other"), "good 2").unwrap();
    fs::rename(folder.path().join("other"), &file).unwrap();
    looks.good("=good 2");
    fs::remove_file(&file).unwrap();
    looks.bad("=good 2");
    fs::create_dir(&file).unwrap();
    looks.bad("=good 2");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, vec![b'x'; 5 << 20]).unwrap();
    looks.bad("=good 2");
    fs::write(&file, "good 3").unwrap();
    looks.good("=good 3");
}

/// As the kubelet does it: a new folder, and a link that is exchanged for another in one step.
fn mount(folder: &Path, set: &str, files: &[(&str, &str)]) {
    let data = folder.join(set);
    fs::create_dir(&data).unwrap();
    for (name, content) in files {
        fs::write(data.join(name), content).unwrap();
        let _ = symlink(Path::new("..data").join(name), folder.join(name));
    }
    symlink(set, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn a_mounted_config_map_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "..2026_01", &[("policy.json", "good 1")]);
    let mut looks = Looks::at(Place::File(folder.path().join("policy.json")));
    looks.good("=good 1");
    mount(folder.path(), "..2026_02", &[("policy.json", "good 2")]);
    looks.good("=good 2");
    fs::remove_dir_all(folder.path().join("..2026_02")).unwrap();
    looks.bad("=good 2");
}

#[test]
fn a_mounted_secret_is_read_as_one_set() {
    let folder = tempfile::tempdir().unwrap();
    mount(
        folder.path(),
        "..2026_01",
        &[("client-id", "good"), ("client-secret", "1")],
    );
    let mut looks = Looks::at(Place::Directory(folder.path().to_owned()));
    looks.good("client-id=good,client-secret=1");
    // A key that is no longer in the Secret has a link that leads nowhere for a moment.
    mount(folder.path(), "..2026_02", &[("client-id", "good 2")]);
    looks.good("client-id=good 2");
}

#[test]
fn a_plain_directory_has_no_hidden_files() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("b", "2"), ("a", "good"), (".b.swp", "3")] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    fs::create_dir(folder.path().join("c")).unwrap();
    let mut looks = Looks::at(Place::Directory(folder.path().to_owned()));
    looks.good("a=good,b=2");
    fs::remove_file(folder.path().join("a")).unwrap();
    looks.bad("a=good,b=2");
}
