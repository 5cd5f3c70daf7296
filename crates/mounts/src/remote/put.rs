//! Puts: small bodies in one request, larger ones in parts.

use data_encoding::BASE64;
use muonic_ports::object_store::{
    Algorithm, ByteStream, ChecksumType, Error, EtagMatch, NewObject, ObjectVersion, Precondition, Result, Sums,
    Target, Verify,
};
use object_store::path::Path;
use object_store::{
    Attributes, GetResult, MultipartUpload, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    UpdateVersion,
};
use tokio::task::JoinSet;

use super::Remote;
use crate::backend::Kind;
use crate::body::Incoming;
use crate::headers::{attributes, refuse_what_is_not_kept};

/// Bodies up to this go in one request; larger ones in parts of it.
const PART: usize = 8 << 20;
/// As many as S3 takes.
const PARTS_MAX: usize = 10_000;

fn sum_of(algorithm: Option<Algorithm>, sums: &Sums) -> Option<(Algorithm, ChecksumType, String)> {
    let algorithm = algorithm?;
    Some((algorithm, ChecksumType::FullObject, BASE64.encode(sums.found.get(&algorithm)?)))
}

impl Remote {
    pub(super) async fn put_object(
        &self,
        target: Target,
        mut new: NewObject,
        body: ByteStream,
        verify: Verify,
    ) -> Result<ObjectVersion> {
        self.ours(&target.bucket)?;
        let path = self.path(&target.key)?;
        refuse_what_is_not_kept(self.backend.kind, &new)?;
        let attributes = attributes(self.backend.kind, &new.headers)?;
        let conditional = target.condition != Precondition::default();
        if conditional && !self.backend.conditions {
            return Err(Error::NotSupported("conditions on writes to this mounted bucket"));
        }
        self.inside(&path).await?;
        new.algorithms.extend(new.algorithm);

        let mut incoming = Incoming::new(body, &new.algorithms, self.memory.clone(), 2 * PART);
        let first = incoming.take(PART).await?;
        let (sums, tag) = if incoming.at_end().await? {
            let sums = incoming.sums();
            verify(&sums)?;
            let mode = self.mode(&path, &target.condition).await?;
            (sums, self.put_whole(&path, first, mode, attributes).await?.e_tag)
        } else if conditional {
            return Err(Error::NotSupported("conditions on writes of more than 8 MiB to a mounted bucket"));
        } else {
            let mut upload = Upload::begin(self, &path, attributes).await?;
            upload.part(first).await?;
            while !incoming.at_end().await? {
                upload.part(incoming.take(PART).await?).await?;
            }
            upload.settle().await?;
            let sums = incoming.sums();
            verify(&sums)?;
            upload.complete().await?;
            // Some servers answer another ETag than they give later.
            (sums, None)
        };
        self.believe();
        let mut object = match tag {
            Some(tag) => self.new_object(&target.key, sums.size, Some(&tag), target.at, new.headers),
            None => {
                let found = self.head(&path).await?.ok_or(Error::NoSuchKey)?;
                self.object(&target.key, &found.meta, new.headers)
            }
        };
        object.sum = sum_of(new.algorithm, &sums);
        Ok(object)
    }

    async fn put_whole(
        &self,
        path: &Path,
        body: PutPayload,
        mode: PutMode,
        attributes: Attributes,
    ) -> Result<PutResult> {
        let created = matches!(mode, PutMode::Create);
        let options = PutOptions { mode, attributes, ..Default::default() };
        // Bounded by the client: a slow line may take long for a body.
        match self.backend.store.put_opts(path, body, options).await {
            Err(object_store::Error::AlreadyExists { .. }) if created => {
                Err(Error::PreconditionFailed("If-None-Match"))
            }
            Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {
                Err(Error::PreconditionFailed("If-Match"))
            }
            result => result.map_err(|e| self.backend.voice.error(e)),
        }
    }

    /// The condition as the store decides it: what is there now is looked at,
    /// and the put holds only as long as that is still there.
    async fn mode(&self, path: &Path, condition: &Precondition) -> Result<PutMode> {
        let Precondition { if_match, if_none_match, if_modified_at, if_size } = condition;
        if if_modified_at.is_some() || if_size.is_some() {
            return Err(Error::NotSupported("conditions on time or size of writes to a mounted bucket"));
        }
        match (if_match, if_none_match) {
            (None, None) => return Ok(PutMode::Overwrite),
            (None, Some(EtagMatch::Any)) => return Ok(PutMode::Create),
            _ => {}
        }
        let found = self.head(path).await?.map(|GetResult { meta, .. }| meta);
        let tag = found.as_ref().map(|meta| self.object("", meta, Default::default()).etag);
        if let Some(wanted) = if_match {
            let tag = tag.as_deref().ok_or(Error::NoSuchKey)?;
            if !wanted.matches(tag) {
                return Err(Error::PreconditionFailed("If-Match"));
            }
        }
        if let (Some(unwanted), Some(tag)) = (if_none_match, &tag)
            && unwanted.matches(tag)
        {
            return Err(Error::PreconditionFailed("If-None-Match"));
        }
        Ok(match found {
            Some(meta) => PutMode::Update(UpdateVersion { e_tag: meta.e_tag, version: meta.version }),
            None => PutMode::Create,
        })
    }
}

/// An upload of ours, one part of which is under way while the next is
/// gathered. Aborted when it is dropped before it is complete.
struct Upload<'a> {
    remote: &'a Remote,
    running: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<object_store::Result<()>>,
    parts: usize,
}

impl<'a> Upload<'a> {
    async fn begin(remote: &'a Remote, path: &Path, attributes: Attributes) -> Result<Self> {
        let options = PutMultipartOptions { attributes, ..Default::default() };
        let begun = remote.ask(remote.backend.store.put_multipart_opts(path, options)).await?;
        let running = begun.map_err(|e| remote.backend.voice.error(e))?;
        Ok(Self { remote, running: Some(running), sending: JoinSet::new(), parts: 0 })
    }

    async fn part(&mut self, body: PutPayload) -> Result<()> {
        self.settle().await?;
        self.parts += 1;
        let limited = !matches!(self.remote.backend.kind, Kind::File | Kind::Hdfs);
        if limited && self.parts > PARTS_MAX {
            return Err(Error::NotSupported("one put of more than 78 GiB to a mounted bucket: upload it in parts"));
        }
        if let Some(running) = &mut self.running {
            self.sending.spawn(running.put_part(body));
        }
        Ok(())
    }

    /// Waits for the part that is under way.
    async fn settle(&mut self) -> Result<()> {
        while let Some(sent) = self.sending.join_next().await {
            match sent {
                Ok(sent) => sent.map_err(|e| self.remote.backend.voice.error(e))?,
                Err(_) => return Err(self.remote.backend.voice.unavailable("is not asked: the server is stopping")),
            }
        }
        Ok(())
    }

    async fn complete(mut self) -> Result<PutResult> {
        self.settle().await?;
        let Some(running) = &mut self.running else { return Err(Error::NoSuchUpload) };
        let result = running.complete().await.map_err(|e| self.remote.backend.voice.error(e))?;
        self.running = None;
        Ok(result)
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let voice = self.remote.backend.voice.clone();
        let mut sending = std::mem::take(&mut self.sending);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                sending.shutdown().await;
                if let Err(e) = running.abort().await {
                    tracing::warn!(store = voice.place, "an upload could not be aborted: {}", voice.detail(&e));
                }
            });
        }
    }
}
