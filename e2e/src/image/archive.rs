//! The archive that `ctr images import` reads: one layer, its configuration, and a list of the two.

use std::{
    fs,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Content, Image};

const LAYER: &str = "layer.tar";
const CONFIG: &str = "config.json";

impl Image {
    /// Writes the archive. Equal files give equal archives.
    pub(crate) fn write_archive(&self, archive: &Path) -> anyhow::Result<()> {
        let layer = archive.with_extension("layer");
        self.write_layer(&layer)?;
        let digest = sha256(&layer)?;
        let config = self.config(&digest).to_string();
        let list =
            json!([{ "Config": CONFIG, "RepoTags": [self.reference()?], "Layers": [LAYER] }]).to_string();
        let file =
            fs::File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
        let mut builder = Builder::new(BufWriter::new(file));
        builder.append_path_with_name(&layer, LAYER)?;
        for (name, content) in [(CONFIG, &config), ("manifest.json", &list)] {
            let mut header = header(EntryType::Regular, content.len() as u64, 0o644);
            builder.append_data(&mut header, name, content.as_bytes())?;
        }
        builder.into_inner()?.flush()?;
        Ok(fs::remove_file(&layer)?)
    }

    fn write_layer(&self, path: &Path) -> anyhow::Result<()> {
        let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut builder = Builder::new(BufWriter::new(file));
        for file in &self.files {
            match &file.content {
                Content::Of(source) => {
                    let content = fs::File::open(source)
                        .with_context(|| format!("cannot read {}", source.display()))?;
                    let mut header = header(EntryType::Regular, content.metadata()?.len(), file.mode);
                    builder.append_data(&mut header, &file.path, content)?;
                }
                Content::Link(target) => {
                    let mut header = header(EntryType::Symlink, 0, file.mode);
                    builder.append_link(&mut header, &file.path, target)?;
                }
            }
        }
        builder.into_inner()?.flush()?;
        Ok(())
    }

    fn config(&self, layer: &str) -> Value {
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": self.user,
                "Entrypoint": self.entrypoint,
                "Env": self.environment,
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        })
    }
}

/// Owned by root, of no time.
fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn sha256(path: &Path) -> io::Result<String> {
    use std::fmt::Write;
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in an archive, by name.
    fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>, u32)> {
        let mut archive = tar::Archive::new(archive);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, content, entry.header().mode().unwrap())
            })
            .collect()
    }

    #[test]
    fn an_archive_holds_the_files_and_names_their_layer() {
        let folder = tempfile::tempdir().unwrap();
        let (source, archive) = (folder.path().join("tool"), folder.path().join("image.tar"));
        fs::write(&source, "program").unwrap();
        let image = Image::of_static_program(&source).unwrap().env("A", "b");
        image.write_archive(&archive).unwrap();

        let found = entries(&fs::read(&archive).unwrap());
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, [LAYER, CONFIG, "manifest.json"]);
        assert_eq!(
            entries(&found[0].1),
            [("tool".to_owned(), b"program".to_vec(), 0o755)]
        );
        let config: Value = serde_json::from_slice(&found[1].1).unwrap();
        assert_eq!(config["config"]["Entrypoint"], json!(["/tool"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        let layer = folder.path().join("layer");
        fs::write(&layer, &found[0].1).unwrap();
        let digest = format!("sha256:{}", sha256(&layer).unwrap());
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest]));
        let list: Value = serde_json::from_slice(&found[2].1).unwrap();
        assert_eq!(list[0]["RepoTags"], json!([image.reference().unwrap()]));

        let before = image.reference().unwrap();
        fs::write(&source, "another program").unwrap();
        assert_ne!(
            image.reference().unwrap(),
            before,
            "a changed file is another image"
        );
    }
}
