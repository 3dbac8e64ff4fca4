//! The reference MCP server as an image: unmodified, with Node and nothing but the packages that it needs.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
};

use anyhow::Context;
use serde_json::Value;

use super::Image;
use crate::tools::NpmTools;

const PACKAGE: &str = "node_modules/@modelcontextprotocol/server-everything";

impl Image {
    /// `server-everything`. It speaks Streamable HTTP at `/mcp` on the port that `PORT` says. Its Node, `/node`, runs
    /// other scripts as well.
    pub fn server_everything(npm: &NpmTools) -> anyhow::Result<Self> {
        let lock = fs::read_to_string(npm.folder().join("package-lock.json"))?;
        let lock: Value = serde_json::from_str(&lock).context("a lock file that is no JSON")?;
        let mut image = Self::new("server-everything").program("/node", &npm.node())?;
        for package in needed(&lock, PACKAGE)? {
            image = image.package(&package, npm)?;
        }
        let main = format!("/app/{PACKAGE}/dist/index.js");
        Ok(image
            .entrypoint(["/node", &main, "streamableHttp"])
            .env("PORT", "3001"))
    }

    /// A package without those that are installed inside it: they are packages of their own.
    fn package(mut self, package: &str, npm: &NpmTools) -> anyhow::Result<Self> {
        let source = npm.folder().join(package);
        let entries = fs::read_dir(&source).with_context(|| format!("cannot read {}", source.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().context("a file whose name is not UTF-8")?;
            let path = format!("/app/{package}/{name}");
            self = match entry.file_type()?.is_dir() {
                true if name == "node_modules" => self,
                true => self.tree(&path, &entry.path())?,
                false => self.file(&path, &entry.path(), 0o644),
            };
        }
        Ok(self)
    }
}

/// The folders of a package and of everything that it needs to run, from a lock file of npm.
fn needed(lock: &Value, package: &str) -> anyhow::Result<BTreeSet<String>> {
    let packages = lock["packages"]
        .as_object()
        .context("a lock file without packages")?;
    let mut found = BTreeSet::new();
    let mut queue = VecDeque::from([package.to_owned()]);
    while let Some(package) = queue.pop_front() {
        if !found.insert(package.clone()) {
            continue;
        }
        let about = packages
            .get(&package)
            .with_context(|| format!("the lock file has no {package}"))?;
        let names = about["dependencies"].as_object().into_iter().flatten();
        for (name, _) in names {
            let folder = places(&package, name).find(|place| packages.contains_key(place));
            queue.push_back(folder.with_context(|| format!("the lock file has no {name} for {package}"))?);
        }
    }
    Ok(found)
}

/// Where Node looks for a package that another one imports: in its own `node_modules`, then in each above it.
fn places(package: &str, name: &str) -> impl Iterator<Item = String> {
    let mut above = Some(package.to_owned());
    std::iter::from_fn(move || {
        let folder = above.take()?;
        above = folder
            .rfind("node_modules/")
            .map(|at| folder[..at].trim_end_matches('/').to_owned());
        let parent = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        Some(format!("{parent}node_modules/{name}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_package_comes_with_the_versions_that_node_would_find() {
        let lock = json!({ "packages": {
            "": {},
            "node_modules/server": { "dependencies": { "a": "1", "@x/b": "1" } },
            "node_modules/server/node_modules/a": { "dependencies": { "c": "2" } },
            "node_modules/a": {},
            "node_modules/@x/b": { "dependencies": { "a": "1", "c": "1" } },
            "node_modules/@x/b/node_modules/c": {},
            "node_modules/c": { "dependencies": { "server": "1" } },
            "node_modules/unrelated": {},
        }});
        let found: Vec<String> = needed(&lock, "node_modules/server")
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(
            found,
            [
                "node_modules/@x/b",
                "node_modules/@x/b/node_modules/c",
                "node_modules/a",
                "node_modules/c",
                "node_modules/server",
                "node_modules/server/node_modules/a",
            ]
        );
        let missing = json!({ "packages": { "node_modules/server": { "dependencies": { "a": "1" } } } });
        assert!(needed(&missing, "node_modules/server").is_err());
    }
}
