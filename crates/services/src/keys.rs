//! Keys. A secret is never stored: it is derived from the master key and the
//! key's id, so that S3 signatures can be checked and a stolen database opens
//! nothing. Valid keys are held in memory; no request waits for the metastore
//! to learn who is calling.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use muonic_ports::routes::Authenticator;
use muonic_ports::{Clock, Metastore};
use muonic_types::key::{Key, KeyCreated, KeyLimits, KeyList, NewKey, Principal, Role};
use muonic_types::{AttemptId, ErrorCode, KeyId, Name, ProjectId, ReplicaId, Timestamp};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::auth::{Action, authorise, runs_the_cloud};
use crate::{Error, Result};

/// Most keys that people may hold at once; keys of running work do not count.
const KEYS_MAX: usize = 10_000;
/// A task's or replica's key ends with its work; this only bounds what a lost
/// one could do.
const WORK_KEY_DAYS: i64 = 366;

pub struct Keys {
    meta: Arc<dyn Metastore>,
    clock: Arc<dyn Clock>,
    master: hmac::Key,
    random: SystemRandom,
    valid: RwLock<HashMap<KeyId, Key>>,
    /// One at a time: two could each find the other's administrator left.
    revoking: tokio::sync::Mutex<()>,
}

/// The 32 bytes all secrets derive from.
pub struct MasterKey(pub [u8; 32]);

impl MasterKey {
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| no_randomness())?;
        Ok(Self(bytes))
    }

    /// A key for one purpose, from which neither this one nor that of another
    /// purpose can be told. Purposes must not begin with `muonic key `.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), purpose.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(tag.as_ref());
        key
    }
}

fn no_randomness() -> Error {
    Error::new(ErrorCode::Internal, "the system gives no random numbers")
}

impl Keys {
    /// Loads all keys; on the first start makes the administrator's. The flag
    /// says whether it was made just now.
    pub async fn open(
        meta: Arc<dyn Metastore>,
        clock: Arc<dyn Clock>,
        master: &MasterKey,
    ) -> Result<(Arc<Self>, KeyCreated, bool)> {
        let keys = meta.key_list().await?;
        let master = hmac::Key::new(hmac::HMAC_SHA256, &master.0);
        let mut admins: Vec<&Key> = keys
            .iter()
            .filter(|k| k.role == Role::Admin && k.expires_at.is_none() && k.project == ProjectId::default_project())
            .collect();
        admins.sort_by_key(|k| k.created_at);
        let admin = admins.first().map(|k| (*k).clone());
        let valid = RwLock::new(keys.into_iter().map(|k| (k.id.clone(), k)).collect());
        let service =
            Arc::new(Self { meta, clock, master, random: SystemRandom::new(), valid, revoking: Default::default() });
        let (admin, created) = match admin {
            Some(key) => (key, false),
            None => {
                let name: Name = "admin".parse()?;
                let key = service.mint(name, ProjectId::default_project(), Role::Admin, None)?;
                service.meta.key_insert(&key).await?;
                service.remember(key.clone());
                (key, true)
            }
        };
        let shown = service.with_secret(admin);
        Ok((service, shown, created))
    }

    pub async fn create(&self, caller: &Principal, new: NewKey) -> Result<KeyCreated> {
        authorise(caller, Action::Administer)?;
        if matches!(new.role, Role::Task | Role::Replica) {
            return Err(Error::invalid(format!("keys of role {} are given to running work only", new.role))
                .hint("use admin, member, viewer or invoker"));
        }
        if self.read().values().filter(|k| k.attempt.is_none() && k.replica.is_none()).count() >= KEYS_MAX {
            return Err(
                Error::conflict(format!("there are {KEYS_MAX} keys already")).hint("revoke some that are not needed")
            );
        }
        let now = self.clock.now();
        let expires_at = match new.expires_in_s {
            None => None,
            Some(0) => return Err(Error::invalid("expires_in_s must be at least 1")),
            Some(seconds) => Some(
                after(now, seconds)
                    .ok_or_else(|| Error::invalid("expires_in_s must be at most 3153600000 (100 years)"))?,
            ),
        };
        let project = new.project.unwrap_or_else(|| caller.project.clone());
        if project != caller.project && !runs_the_cloud(caller) {
            return Err(Error::new(
                ErrorCode::Forbidden,
                format!("a key of the project {} may not make keys of {project}", caller.project),
            )
            .hint("ask an administrator of the project 'default'"));
        }
        if [new.limits.requests_per_minute, new.limits.tokens_per_minute].contains(&Some(0)) {
            return Err(Error::invalid("limits must be at least 1").hint("revoke a key that may ask for nothing"));
        }
        let mut key = self.mint(new.name, project, new.role, expires_at)?;
        key.limits = new.limits;
        self.meta.key_insert(&key).await?;
        self.remember(key.clone());
        Ok(self.with_secret(key))
    }

    /// Those of the caller's project; an administrator of `default` sees all.
    pub async fn list(&self, caller: &Principal) -> Result<KeyList> {
        authorise(caller, Action::Administer)?;
        let mut keys: Vec<Key> = self.read().values().filter(|k| in_reach(caller, k)).cloned().collect();
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(KeyList { keys })
    }

    pub async fn revoke(self: &Arc<Self>, caller: &Principal, id: &KeyId) -> Result<()> {
        authorise(caller, Action::Administer)?;
        let (keys, caller, id) = (self.clone(), caller.clone(), id.clone());
        crate::to_the_end(async move { keys.revoke_now(&caller, &id).await }).await
    }

    async fn revoke_now(&self, caller: &Principal, id: &KeyId) -> Result<()> {
        let _one = self.revoking.lock().await;
        let missing = || Error::not_found(format!("there is no key {id}"));
        {
            let keys = self.read();
            let key = keys.get(id).filter(|k| in_reach(caller, k)).ok_or_else(missing)?;
            let is_root =
                |k: &Key| k.role == Role::Admin && k.expires_at.is_none() && k.project == ProjectId::default_project();
            if is_root(key) && !keys.values().any(|k| k.id != *id && is_root(k)) {
                return Err(
                    Error::conflict(format!("{id} is the last administrator key")).hint("create another one first")
                );
            }
        }
        self.meta.key_revoke(id).await?;
        self.forget(id);
        Ok(())
    }

    /// A key for one attempt; valid once the metastore has it and
    /// [`Self::remember`] was called.
    pub(crate) fn for_attempt(&self, project: &ProjectId, attempt: &AttemptId) -> Result<Key> {
        let mut key = self.mint(attempt.job().name(), project.clone(), Role::Task, self.work_expiry())?;
        key.attempt = Some(attempt.clone());
        Ok(key)
    }

    pub(crate) fn for_replica(&self, project: &ProjectId, replica: &ReplicaId) -> Result<Key> {
        let mut key = self.mint(replica.endpoint(), project.clone(), Role::Replica, self.work_expiry())?;
        key.replica = Some(replica.clone());
        Ok(key)
    }

    pub(crate) fn token(&self, id: &KeyId) -> String {
        format!("{id}.{}", self.derive(id))
    }

    pub(crate) fn remember(&self, key: Key) {
        self.valid.write().unwrap_or_else(|e| e.into_inner()).insert(key.id.clone(), key);
    }

    pub(crate) fn forget(&self, id: &KeyId) {
        self.valid.write().unwrap_or_else(|e| e.into_inner()).remove(id);
    }

    /// Forgets the key of an attempt that has ended.
    pub(crate) fn forget_attempt(&self, attempt: &AttemptId) {
        self.valid.write().unwrap_or_else(|e| e.into_inner()).retain(|_, k| k.attempt.as_ref() != Some(attempt));
    }

    pub(crate) fn forget_replica(&self, replica: &ReplicaId) {
        self.valid.write().unwrap_or_else(|e| e.into_inner()).retain(|_, k| k.replica.as_ref() != Some(replica));
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<KeyId, Key>> {
        self.valid.read().unwrap_or_else(|e| e.into_inner())
    }

    fn work_expiry(&self) -> Option<Timestamp> {
        after(self.clock.now(), (WORK_KEY_DAYS * 86_400) as u64)
    }

    fn mint(&self, name: Name, project: ProjectId, role: Role, expires_at: Option<Timestamp>) -> Result<Key> {
        let mut bytes = [0; 12];
        self.random.fill(&mut bytes).map_err(|_| no_randomness())?;
        let created_at = self.clock.now();
        Ok(Key {
            id: KeyId::from_random(&bytes),
            name,
            project,
            role,
            created_at,
            expires_at,
            attempt: None,
            replica: None,
            limits: KeyLimits::default(),
        })
    }

    fn with_secret(&self, key: Key) -> KeyCreated {
        let secret = self.derive(&key.id);
        KeyCreated { token: format!("{}.{secret}", key.id), secret, key }
    }

    fn message(id: &KeyId) -> Vec<u8> {
        format!("muonic key 1:{id}").into_bytes()
    }

    fn derive(&self, id: &KeyId) -> String {
        data_encoding::BASE64URL_NOPAD.encode(hmac::sign(&self.master, &Self::message(id)).as_ref())
    }

    pub(crate) fn valid_now(&self, id: &KeyId) -> Option<Principal> {
        let keys = self.read();
        let key = keys.get(id)?;
        if key.expires_at.is_some_and(|at| at <= self.clock.now()) {
            return None;
        }
        Some(Principal {
            key: key.id.clone(),
            project: key.project.clone(),
            role: key.role,
            attempt: key.attempt.clone(),
            replica: key.replica.clone(),
            limits: key.limits,
        })
    }
}

fn in_reach(caller: &Principal, key: &Key) -> bool {
    key.project == caller.project || runs_the_cloud(caller)
}

fn after(now: Timestamp, seconds: u64) -> Option<Timestamp> {
    if seconds > 3_153_600_000 {
        return None;
    }
    now.checked_add(std::time::Duration::from_secs(seconds)).ok()
}

impl Authenticator for Keys {
    fn authenticate(&self, token: &str) -> Result<Principal, (ErrorCode, String)> {
        let refused = || (ErrorCode::Unauthenticated, "the key is unknown, expired or revoked".to_owned());
        let (id, secret) = token.split_once('.').ok_or_else(refused)?;
        let id: KeyId = id.parse().map_err(|_| refused())?;
        let secret = data_encoding::BASE64URL_NOPAD.decode(secret.as_bytes()).map_err(|_| refused())?;
        // Constant time, and before the look-up, so that ids cannot be probed.
        hmac::verify(&self.master, &Self::message(&id), &secret).map_err(|_| refused())?;
        self.valid_now(&id).ok_or_else(refused)
    }

    fn secret(&self, id: &KeyId) -> Option<(Principal, String)> {
        self.valid_now(id).map(|principal| (principal, self.derive(id)))
    }
}
