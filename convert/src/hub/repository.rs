//! One model at the hub: the commit that a revision is, its files with lengths and sums, and which of them a conversion
//! needs.
//!
//! In: what the hub's API says (`/api/models/NAME/revision/REV` and `/tree/COMMIT`). Out: the small files on the disk, and an input whose weights are on the disk or read where they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use ggml::Cancel;

use super::answers::{About, files_of};
use super::client::Client;
use super::download::download;
use super::environment::Environment;
use super::name::{ModelName, revision_in_address};
use super::ranges::Ranges;
use super::remote::Remote;
use super::store::{Store, cached};
use super::sum::{HubFile, Sum};
use crate::checkpoint::file::KnownFile;
use crate::checkpoint::{LAYOUTS, read_index};
use crate::error::{Error, Result};
use crate::input::Input;
use crate::origin::Origin;
use crate::run::Progress;

/// What a conversion reads beside the weights, as far as a repository has it.
const SMALL_FILES: [&str; 6] = [
    "config.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
];
/// The largest of them is an index, whose reader takes no more.
const SMALL_BYTES_MAX: u64 = 64 << 20;
const PAGES_MAX: usize = 32;
const FILES_MAX: usize = 20_000;

/// What is wanted of the hub.
#[derive(Debug, Clone)]
pub struct Wish {
    pub name: ModelName,
    /// A branch, a tag or a commit; `main` without it.
    pub revision: Option<String>,
    /// Where files are kept; in the cache of the hub's tool without it.
    pub dir: Option<PathBuf>,
}

/// Where a model was found.
#[derive(Debug)]
pub enum Found {
    AtHub(Repository),
    /// Nobody could be asked, and the cache has this directory of it.
    InCache(PathBuf),
}

/// A model whose small files are on the disk.
#[derive(Debug)]
pub struct Repository {
    client: Arc<Client>,
    commit: String,
    licence: Option<String>,
    files: BTreeMap<String, HubFile>,
    store: Store,
    weights: Vec<HubFile>,
}

/// Asks for what is wanted, and fetches its small files.
///
/// # Errors
/// Where the hub can't be reached and the cache has nothing, where it knows no such thing or does not give it, where what
/// it says is unsound, and where a file can't be kept.
pub fn find(
    wish: &Wish,
    environment: &Environment,
    cancel: &Cancel,
    progress: &mut dyn Progress,
) -> Result<Found> {
    let revision = wish.revision.as_deref().unwrap_or("main");
    let address = revision_in_address(revision)?;
    let in_cache = || cached(environment.cache.as_deref()?, &wish.name, revision);
    if environment.is_offline {
        return in_cache().map(Found::InCache).ok_or_else(|| {
            Error::network(
                &wish.name,
                format!("HF_HUB_OFFLINE is set, and no {revision} of it is in the cache"),
            )
        });
    }
    let client = Arc::new(Client::new(environment, wish.name.clone(), cancel));
    let info = client.json(&client.at(&format!("api/models/{}/revision/{address}", wish.name)));
    let info = match info {
        Ok((info, _)) => info,
        Err(error) if !client.contact.was_reached() && !client.contact.cancel.is_cancelled() => {
            let Some(dir) = in_cache() else { return Err(error) };
            progress.note(&error.to_string());
            return Ok(Found::InCache(dir));
        }
        Err(error) => return Err(error),
    };
    let About { commit, licence } =
        About::read(&info).ok_or_else(|| client.network("the hub's answer has no sound commit"))?;
    let store = match (&wish.dir, &environment.cache) {
        (Some(dir), _) => Store::Plain(dir.clone()),
        (None, Some(cache)) => {
            Store::Cache { model: cache.join(wish.name.directory()), commit: commit.clone() }
        }
        (None, None) => {
            return Err(client.network("no place to keep its files: set HF_HOME, or say --download-dir"));
        }
    };
    let mut repository =
        Repository { files: tree(&client, &commit)?, licence, commit, client, store, weights: Vec::new() };
    repository.fetch_small(progress)?;
    repository.store.note_revision(revision);
    Ok(Found::AtHub(repository))
}

impl Repository {
    pub fn name(&self) -> &ModelName {
        &self.client.name
    }

    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// What its authors say, unchecked.
    pub fn licence(&self) -> Option<&str> {
        self.licence.as_deref()
    }

    /// What stops whatever is fetched of it.
    pub fn cancel(&self) -> &Cancel {
        &self.client.contact.cancel
    }

    /// Where its files are kept.
    pub fn dir(&self) -> PathBuf {
        self.store.dir()
    }

    pub fn n_weight_files(&self) -> usize {
        self.weights.len()
    }

    pub fn n_weight_bytes(&self) -> u64 {
        self.weights.iter().map(|file| file.n_bytes).sum()
    }

    /// Bytes of weights that are on no disk here.
    pub fn n_missing_bytes(&self) -> u64 {
        self.missing().map(|file| file.n_bytes).sum()
    }

    fn missing(&self) -> impl Iterator<Item = &HubFile> {
        self.weights.iter().filter(|file| !self.store.holds(file))
    }

    /// The checkpoint, whose missing weights are read where they lie.
    pub fn input(&self) -> Input {
        let known = |file: &HubFile| {
            // files in git itself were fetched with the small ones
            let Sum::Sha256(sha256) = file.sum else { return None };
            let far = (!self.store.holds(file)).then(|| Arc::new(Remote::new(self.ranges(file))) as Arc<_>);
            Some((file.name.clone(), KnownFile { sha256, far }))
        };
        Input {
            dir: self.store.dir(),
            origin: Origin { name: self.client.name.to_string(), revision: self.commit.clone() },
            known: self.weights.iter().filter_map(known).collect(),
        }
    }

    /// Fetches the weights that are not there.
    ///
    /// # Errors
    /// Where they don't come; what has come stays, and another call goes on there.
    pub fn fetch_weights(&self, progress: &mut dyn Progress) -> Result<()> {
        progress.start(self.n_missing_bytes());
        self.missing().try_for_each(|file| download(self.ranges(file), &self.store, progress))
    }

    fn ranges(&self, file: &HubFile) -> Ranges {
        Ranges::new(self.client.clone(), file.clone(), &self.commit)
    }

    fn fetch_small(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let place = format!("{} at {}", self.client.name, self.commit);
        let layout = LAYOUTS.iter().find_map(|(index, single, _)| {
            let found = [index, single].into_iter().find(|name| self.files.contains_key(**name))?;
            Some((*found, found == index))
        });
        let Some((weights, is_index)) = layout else {
            let names = LAYOUTS.map(|(index, single, _)| format!("{single}, {index}")).join(", ");
            return Err(Error::network(
                place,
                format!("expected weights in one of {names}; found none of them"),
            ));
        };
        for name in SMALL_FILES.into_iter().chain(is_index.then_some(weights)) {
            if let Some(file) = self.files.get(name) {
                self.fetch_one(file, progress)?;
            }
        }
        let names = match is_index {
            true => read_index(&self.store.dir().join(weights))?.into_values().collect(),
            false => BTreeSet::from([weights.to_string()]),
        };
        for name in names {
            let Some(file) = self.files.get(&name) else {
                let what = format!("expected shard {} of {weights}, found no such file", name.escape_debug());
                return Err(Error::network(place, what));
            };
            if matches!(file.sum, Sum::Git(_)) {
                self.fetch_one(file, progress)?;
            }
            self.weights.push(file.clone());
        }
        Ok(())
    }

    /// A file that must be what its sum says before anything is read out of it.
    fn fetch_one(&self, file: &HubFile, progress: &mut dyn Progress) -> Result<()> {
        if file.n_bytes > SMALL_BYTES_MAX {
            let place = format!("{}: {}", self.client.name, file.name);
            return Err(Error::limit(place, format!("{} bytes", file.n_bytes), SMALL_BYTES_MAX));
        }
        let path = self.store.dir().join(&file.name);
        if self.store.holds(file) && file.is_at(&path).map_err(|error| Error::io(&path, error))? {
            return Ok(());
        }
        download(self.ranges(file), &self.store, &mut Notes(progress))
    }
}

/// Only what is to be said, without what counts.
struct Notes<'a>(&'a mut dyn Progress);

impl Progress for Notes<'_> {
    fn start(&mut self, _: u64) {}

    fn advance(&mut self, _: &str, _: u64) {}

    fn note(&mut self, line: &str) {
        self.0.note(line);
    }
}

/// The files of the repository's top that have names to be used here; page after page.
fn tree(client: &Client, commit: &str) -> Result<BTreeMap<String, HubFile>> {
    let mut files = BTreeMap::new();
    let mut address = client.at(&format!("api/models/{}/tree/{commit}", client.name));
    for _ in 0..PAGES_MAX {
        let (entries, next) = client.json(&address)?;
        let page = files_of(&entries).ok_or_else(|| client.network("the hub's list of files is no list"))?;
        files.extend(page.into_iter().map(|file| (file.name.clone(), file)));
        if files.len() > FILES_MAX {
            break;
        }
        match next {
            Some(next) => address = next,
            None => return Ok(files),
        }
    }
    Err(Error::limit(&client.name, "the hub's list of files", FILES_MAX as u64))
}
