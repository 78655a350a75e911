//! Packs small images without a registry or a builder: one layer, deterministic bytes, docker-archive or OCI layout.
//!
//! The pause image and the example images are made from the machine's static busybox.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

/// Where Debian's busybox-static puts its program.
pub const BUSYBOX: &str = "/bin/busybox";
/// The image that every sandbox runs.
pub const PAUSE_IMAGE: &str = "localhost/pause:1";
/// Name of the example image without its tag.
pub const WEB_IMAGE: &str = "localhost/keelson-web";
/// Port of the example image.
pub const WEB_PORT: u16 = 8080;

/// Commands that the example image offers as links to busybox.
const APPLETS: [&str; 30] = [
    "sh", "ash", "cat", "ls", "echo", "sleep", "httpd", "nc", "ps", "env", "hostname", "id", "true", "false",
    "test", "grep", "head", "tail", "wc", "mkdir", "rm", "cp", "mv", "touch", "date", "kill", "stty", "tty",
    "seq", "ping",
];

/// The example's program. As process 1 it must handle SIGTERM itself: the kernel ignores signals that process 1 does not
/// handle. It goes on answering for a moment, so that connections arriving before the service rules have changed are served.
const WEB_SCRIPT: &str = r#"#!/bin/sh
mkdir -p /www
echo "$(hostname) keelson-web version VERSION" > /www/index.html
httpd -f -p PORT -h /www &
server=$!
finish() {
  sleep 3
  kill -TERM $server
  exit 0
}
trap finish TERM INT
while kill -0 $server 2>/dev/null; do wait $server; done
"#;

/// Why an image could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// busybox is not installed.
    #[error("cannot read {path} (package busybox-static): {source}")]
    Busybox {
        /// Where it was looked for.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the image archive: {0}")]
    Write(#[from] io::Error),
}

/// Formats that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `docker load` reads.
    Docker,
    /// An OCI image layout.
    Oci,
}

/// One file of the layer.
#[derive(Debug, Clone)]
enum Content {
    Directory,
    File(Vec<u8>),
    Link(&'static str),
}

#[derive(Debug, Clone)]
struct Node {
    path: String,
    mode: u32,
    content: Content,
}

/// An image to be packed.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    nodes: Vec<Node>,
    entrypoint: Vec<String>,
    ports: Vec<u16>,
}

impl Image {
    /// Returns an image without files or program, for tests.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        Self { name: name.to_owned(), nodes: Vec::new(), entrypoint: Vec::new(), ports: Vec::new() }
    }

    fn busybox(name: &str, program: &Path) -> Result<Self, PackError> {
        let bytes = std::fs::read(program)
            .map_err(|source| PackError::Busybox { path: program.to_owned(), source })?;
        let mut image = Self::empty(name);
        image.add("bin", 0o755, Content::Directory);
        image.add("bin/busybox", 0o755, Content::File(bytes));
        Ok(image)
    }

    fn add(&mut self, path: &str, mode: u32, content: Content) {
        self.nodes.push(Node { path: path.to_owned(), mode, content });
    }

    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for node in &self.nodes {
            let mut header = header(node.mode);
            match &node.content {
                Content::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, format!("{}/", node.path), io::empty())?;
                }
                Content::File(bytes) => append_file(&mut tar, header, &node.path, bytes)?,
                Content::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, &node.path, target)?;
                }
            }
        }
        tar.into_inner()
    }

    fn config(&self, layer: &[u8]) -> Vec<u8> {
        let ports: serde_json::Map<_, _> =
            self.ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": self.entrypoint,
                "ExposedPorts": ports,
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "keelson image pack" }],
        });
        config.to_string().into_bytes()
    }

    /// Returns the archive's bytes; the same image always gives the same bytes.
    ///
    /// # Errors
    /// Never for the images of this module; a path longer than tar allows would be one.
    pub fn to_archive(&self, format: Format) -> Result<Vec<u8>, PackError> {
        let layer = self.layer()?;
        let config = self.config(&layer);
        let bytes = match format {
            Format::Docker => self.docker_archive(&layer, &config)?,
            Format::Oci => self.oci_layout(&layer, &config)?,
        };
        Ok(bytes)
    }

    fn docker_archive(&self, layer: &[u8], config: &[u8]) -> io::Result<Vec<u8>> {
        let config_name = format!("{}.json", digest(config));
        let layer_name = format!("{}/layer.tar", digest(layer));
        let manifest = json!([{ "Config": config_name, "RepoTags": [self.name], "Layers": [layer_name] }]);
        let mut tar = tar::Builder::new(Vec::new());
        append_file(&mut tar, header(0o644), &config_name, config)?;
        append_file(&mut tar, header(0o644), &layer_name, layer)?;
        append_file(&mut tar, header(0o644), "manifest.json", manifest.to_string().as_bytes())?;
        tar.into_inner()
    }

    fn oci_layout(&self, layer: &[u8], config: &[u8]) -> io::Result<Vec<u8>> {
        let descriptor = |kind: &str, bytes: &[u8]| {
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({ "mediaType": media_type, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor("layer.v1.tar", layer)],
        })
        .to_string();
        let mut entry = descriptor("manifest.v1+json", manifest.as_bytes());
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("annotations".to_owned(), json!({ "io.containerd.image.name": self.name }));
        }
        let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
        let mut tar = tar::Builder::new(Vec::new());
        append_file(&mut tar, header(0o644), "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for blob in [layer, config, manifest.as_bytes()] {
            append_file(&mut tar, header(0o644), &format!("blobs/sha256/{}", digest(blob)), blob)?;
        }
        append_file(&mut tar, header(0o644), "index.json", index.as_bytes())?;
        tar.into_inner()
    }
}

/// Returns the image that every sandbox runs: it only sleeps. As process 1 it ignores SIGTERM, which costs nothing, because
/// CRI runtimes end sandboxes with SIGKILL.
///
/// # Errors
/// When busybox is not installed.
pub fn pause_image() -> Result<Image, PackError> {
    let mut image = Image::busybox(PAUSE_IMAGE, Path::new(BUSYBOX))?;
    image.entrypoint = [BUSYBOX, "sleep", "2147483647"].map(str::to_owned).to_vec();
    Ok(image)
}

/// Returns the example web server: on port [`WEB_PORT`] it answers with the pod's name and this version.
///
/// # Errors
/// When busybox is not installed.
pub fn web_image(version: u32) -> Result<Image, PackError> {
    let mut image = Image::busybox(&format!("{WEB_IMAGE}:{version}"), Path::new(BUSYBOX))?;
    for applet in APPLETS {
        image.add(&format!("bin/{applet}"), 0o777, Content::Link("busybox"));
    }
    for directory in ["etc", "proc", "sys", "dev", "www"] {
        image.add(directory, 0o755, Content::Directory);
    }
    image.add("tmp", 0o1777, Content::Directory);
    image.add("etc/passwd", 0o644, Content::File(b"root:x:0:0:root:/:/bin/sh\n".to_vec()));
    image.add("etc/group", 0o644, Content::File(b"root:x:0:\n".to_vec()));
    let script = WEB_SCRIPT.replace("VERSION", &version.to_string()).replace("PORT", &WEB_PORT.to_string());
    image.add("bin/web", 0o755, Content::File(script.into_bytes()));
    image.entrypoint = vec!["/bin/web".to_owned()];
    image.ports = vec![WEB_PORT];
    Ok(image)
}

fn header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn append_file(
    tar: &mut tar::Builder<Vec<u8>>,
    mut header: tar::Header,
    path: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let size = u64::try_from(bytes.len()).map_err(io::Error::other)?;
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, path, bytes)
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_twice_gives_the_same_bytes() {
        let image = Image::empty("localhost/a:1");
        assert_eq!(image.to_archive(Format::Docker).unwrap(), image.to_archive(Format::Docker).unwrap());
    }
}
