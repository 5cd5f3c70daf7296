//! `muonic key`

use muonic_types::key::{Key, KeyCreated, KeyLimits, NewKey, Role};
use muonic_types::{KeyId, Name, ProjectId, Timestamp};

use crate::confirm::confirmed;
use crate::context::{Context, note};
use crate::failure::{Exit, Outcome};
use crate::parse;
use crate::render::{Screen, Table, human, word};

#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    Create(CreateArgs),
    Ls(LsArgs),
    Revoke(RevokeArgs),
}

/// Roles that people give; attempts and replicas get theirs from the server.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum GivenRole {
    /// Everything, keys included
    Admin,
    /// Reads and changes data, jobs, models and endpoints
    Member,
    /// Reads, and calls endpoints
    Viewer,
    /// Calls endpoints, nothing else
    Invoker,
}

/// Make a key; its secret is shown this once
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic key create app --role invoker --expires 30d")]
pub struct CreateArgs {
    /// What the key is for
    name: Name,
    /// What it may do
    #[arg(long)]
    role: GivenRole,
    /// How long it is valid, such as 12h or 30d; for ever without
    #[arg(long, value_name = "DURATION", value_parser = parse::lifetime)]
    expires: Option<u64>,
    /// Another project; only an administrator of 'default' may name one
    #[arg(long)]
    project: Option<ProjectId>,
    /// Requests to endpoints that it may make in a minute; no limit without
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_minute: Option<u32>,
    /// Tokens of language models that it may use in a minute; no limit without
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    tokens_per_minute: Option<u32>,
}

/// List keys, without their secrets
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic key ls")]
pub struct LsArgs {}

/// Make a key useless at once
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic key revoke MKABCDEFGHIJKLMNOPQR")]
pub struct RevokeArgs {
    /// The key's id
    id: KeyId,
    /// Do not ask, though it is the key that this command uses
    #[arg(long)]
    yes: bool,
}

const OWN: &str = "This command uses the key that it would revoke: nothing works with it afterwards.";

impl KeyCommand {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(args) => args.run(context),
            Self::Ls(_) => {
                let list = context.client()?.keys()?;
                context.show(&list, || ls_text(&list.keys, context.now(), context.screen()))?;
                Ok(Exit::Ok)
            }
            Self::Revoke(args) => {
                let client = context.client()?;
                let own = client.key_id() == args.id.as_str();
                if own && !args.yes && !confirmed(OWN, "Revoke it?", "the key in use is not revoked without a yes")? {
                    return Ok(Exit::Ok);
                }
                client.key_revoke(&args.id)?;
                context.show(&serde_json::json!({"revoked": args.id}), || format!("{} is revoked\n", args.id))?;
                Ok(Exit::Ok)
            }
        }
    }
}

impl CreateArgs {
    fn run(self, context: &Context) -> Outcome {
        let role = match self.role {
            GivenRole::Admin => Role::Admin,
            GivenRole::Member => Role::Member,
            GivenRole::Viewer => Role::Viewer,
            GivenRole::Invoker => Role::Invoker,
        };
        let limits =
            KeyLimits { requests_per_minute: self.requests_per_minute, tokens_per_minute: self.tokens_per_minute };
        let new = NewKey { name: self.name, role, expires_in_s: self.expires, project: self.project, limits };
        let created = context.client()?.key_create(&new)?;
        context.show(&created, || created_text(&created))?;
        note("keep the secret now: it is not shown again");
        Ok(Exit::Ok)
    }
}

fn created_text(created: &KeyCreated) -> String {
    let until = created.key.expires_at.map_or(String::new(), |t| format!(" until {}", human::instant(t)));
    format!(
        "{}  {}{until}\nexport MUONIC_TOKEN={}\nexport AWS_ACCESS_KEY_ID={}\nexport AWS_SECRET_ACCESS_KEY={}\n",
        created.key.name,
        word(&created.key.role),
        created.token,
        created.key.id,
        created.secret
    )
}

fn ls_text(keys: &[Key], now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new(screen, ["ID", "NAME", "PROJECT", "ROLE", "MADE", "EXPIRES"]);
    for key in keys {
        let expires = match key.expires_at {
            None => "never".to_owned(),
            Some(t) if t <= now => "expired".to_owned(),
            Some(t) => format!("in {}", human::about(human::between(now, t))),
        };
        let made = human::ago(key.created_at, now);
        let (id, name, project) = (key.id.to_string(), key.name.to_string(), key.project.to_string());
        table.row([id, name, project, word(&key.role), made, expires]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keys_with_what_is_left_of_them() {
        let key = |expires: Option<&str>| Key {
            id: "MKABCDEFGHIJKLMNOPQR".parse().unwrap(),
            name: "app".parse().unwrap(),
            project: "default".parse().unwrap(),
            role: Role::Invoker,
            created_at: "2026-11-03T12:00:00Z".parse().unwrap(),
            expires_at: expires.map(|t| t.parse().unwrap()),
            attempt: None,
            replica: None,
            limits: Default::default(),
        };
        let now = "2026-11-03T13:00:00Z".parse().unwrap();
        let keys = [key(None), key(Some("2026-11-03T12:30:00Z")), key(Some("2026-11-03T15:00:00Z"))];
        assert_eq!(
            ls_text(&keys, now, Screen::PIPE),
            "ID                    NAME  PROJECT  ROLE     MADE    EXPIRES
MKABCDEFGHIJKLMNOPQR  app   default  invoker  1h ago  never
MKABCDEFGHIJKLMNOPQR  app   default  invoker  1h ago  expired
MKABCDEFGHIJKLMNOPQR  app   default  invoker  1h ago  in 2h
"
        );
    }
}
