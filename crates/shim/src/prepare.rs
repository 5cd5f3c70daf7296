//! Before the command: its files and its Python environment.

use std::fs;
use std::path::{Path, PathBuf};

use muonic_python as python;
use muonic_types::job::{Exit, Phase};
use muonic_unit::remove_tree;

use crate::attempt::{Early, Stage};
use crate::link::{About, Fault};

const FOLDERS: [&str; 6] = ["code", "input", "model", "output", "checkpoints", "tmp"];

impl Stage<'_> {
    pub fn fetch(&mut self, work: &Path) -> Result<(), Early> {
        self.tell(Phase::Fetching, None);
        let failed = |what: &str, e: &dyn std::fmt::Display| {
            Early::failed(Exit::SetupFailed, format!("{what} could not be fetched: {e}"))
        };
        let made =
            remove_tree(work).and_then(|()| FOLDERS.iter().try_for_each(|name| fs::create_dir_all(work.join(name))));
        made.map_err(|e| Early::failed(Exit::SetupFailed, format!("the work folder could not be made: {e}")))?;
        let code = self.task.spec.code.map(|digest| ("the code".to_owned(), digest, work.join("code")));
        let inputs = self.task.inputs.iter().map(|(channel, digest)| {
            (format!("the input '{channel}'"), *digest, work.join("input").join(channel.as_str()))
        });
        for (what, digest, to) in code.into_iter().chain(inputs).collect::<Vec<_>>() {
            let link = self.link.clone();
            let fetched = self
                .aside(move |unwanted| link.call(About::Content, unwanted, |c| c.tree_download(&digest, &to, &())))?;
            match fetched {
                Ok(_) => (),
                Err(Fault::Stopped) => return Err(self.stopped()),
                Err(Fault::Refused(e)) => return Err(failed(&what, &e)),
            }
        }
        Ok(())
    }

    /// The Python environment; none where there is no Python and none is
    /// asked for.
    pub fn environment(&mut self, work: &Path) -> Result<Option<python::Environment>, Early> {
        let code = work.join("code");
        let failed = |e: python::Error| Early::failed(Exit::EnvironmentFailed, e.to_string());
        let needed = python::has_requirements(&code).map_err(failed)?;
        if needed {
            self.tell(Phase::Environment, None);
        }
        let cache = self.link.launch.cache.clone();
        let wanted = self.link.launch.settings.get("python").map(PathBuf::from);
        let log = self.log.clone();
        let built = self.aside(move |unwanted| {
            let request = python::Request { folder: &code, cache: &cache, python: wanted.as_deref() };
            python::ensure(&request, &mut |line| log.push(format!("{line}\n").as_bytes()), unwanted)
        })?;
        match built {
            Ok(environment) => Ok(Some(environment)),
            Err(python::Error::NoPython { .. }) if !needed => Ok(None),
            Err(python::Error::Cancelled) => Err(self.stopped()),
            Err(e) => Err(failed(e)),
        }
    }
}
