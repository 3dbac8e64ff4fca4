//! Which client the Secret says it is, and whether that may be said. Pure.

use k8s_openapi::api::core::v1::Secret;
use kube::{Resource as _, ResourceExt as _};
use mcp_auth_crds::v1alpha1::{AuthorizationServer, ExistingClient, McpClient};

use crate::{
    controllers::{conflict, halt::Halt, home},
    policy::names,
    provider::{Conflict, Credential, Holder, Presence},
};

/// As long as what Keycloak and others can store.
const LONGEST_ID: usize = 255;

/// What the Secret says. Until it is proved, neither the id nor the secret may be shown: whoever wrote the McpClient may
/// name a Secret, and keys of it, that they cannot read.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// Name of the Secret.
    pub(super) secret_name: String,
    /// Changes with every write to the Secret, and when other keys of it are read. No hash of what it holds, because that
    /// may be easy to guess.
    pub(super) version: String,
    /// The client id.
    pub(super) client_id: String,
    /// The client secret.
    pub(super) secret: Credential,
}

impl Claim {
    /// What the Secret says, or what it lacks.
    pub(super) fn read(existing: &ExistingClient, secret: Option<&Secret>) -> Result<Self, Halt> {
        let reference = &existing.secret_ref;
        let name = &reference.name;
        let (id_key, secret_key) = (reference.client_id_key(), reference.client_secret_key());
        let Some(secret) = secret else {
            return Err(Halt::waiting(
                "SecretNotFound",
                format!("Secret {name} does not exist: it is to hold the keys {id_key} and {secret_key}"),
            ));
        };
        let value = |key: &str| {
            let bytes = secret.data.as_ref()?.get(key)?.0.clone();
            let text = String::from_utf8(bytes).ok()?;
            // Files end with a line break, and files are what many Secrets are made of.
            Some(text.trim_end().to_owned()).filter(|text| !text.is_empty())
        };
        let lacks = |key: &str, what: &str| {
            let message = format!("Secret {name} lacks the key {key}, or it holds no {what}: fill it in");
            Halt::waiting("SecretIncomplete", message)
        };
        let is_id =
            |text: &String| text.len() <= LONGEST_ID && text.bytes().all(|byte| byte.is_ascii_graphic());
        let meta = secret.meta();
        let [uid, version] =
            [&meta.uid, &meta.resource_version].map(|part| part.as_deref().unwrap_or_default());
        Ok(Self {
            secret_name: name.clone(),
            version: names::hash([uid, version, id_key, secret_key].join("/").as_bytes(), 8),
            client_id: value(id_key)
                .filter(is_id)
                .ok_or_else(|| lacks(id_key, "client id"))?,
            secret: Credential::new(value(secret_key).ok_or_else(|| lacks(secret_key, "client secret"))?),
        })
    }

    /// Whether it was proved before, in this very Secret.
    pub(super) fn was_proved(&self, client: &McpClient) -> bool {
        client.status.as_ref().is_some_and(|status| {
            status.client_id.as_ref() == Some(&self.client_id)
                && status.secret_hash.as_ref() == Some(&self.version)
        })
    }

    /// Why the McpClient may not speak for this client, whatever credential it has: it belongs to another of our objects,
    /// or to the authorization server, or is the operator itself (`own`). Suspending this McpClient would deny that one.
    pub(super) fn refusal(
        &self,
        presence: &Presence,
        own: &str,
        client: &McpClient,
        server: &AuthorizationServer,
        installation: &str,
    ) -> Option<Halt> {
        let mark = home::mark(client, installation);
        let holder = match presence {
            _ if self.client_id == own => Holder::BuiltIn,
            // What a managed client of this very name left behind.
            Presence::Held(Holder::Marked(holder)) if holder.same_object(&mark) => return None,
            Presence::Held(holder @ (Holder::Marked(_) | Holder::BuiltIn)) => holder.clone(),
            Presence::Held(Holder::Unmarked { .. }) | Presence::Absent => {
                let is_ours = self.client_id.starts_with(&names::client_id_prefix(installation));
                return is_ours.then(|| {
                    let message = format!("{} has an id that belongs to managed clients", self.subject());
                    Halt::refused("AlreadyHeld", message + ": let the Secret name another client")
                });
            }
        };
        let conflict = Conflict {
            subject: format!("client that Secret {} names", self.secret_name),
            holder,
        };
        let namespace = client.namespace().unwrap_or_default();
        conflict::refusal(&[conflict], &namespace, installation, server)
    }

    /// That it does not exist at the authorization server, or not yet.
    pub(super) fn unregistered(&self) -> Halt {
        let message = format!(
            "{} does not exist at the authorization server: register it there, or correct the Secret",
            self.subject()
        );
        Halt::waiting("ClientNotFound", message)
    }

    /// That whatever secret is in the Secret works, and so shows nothing.
    pub(super) fn unprovable(&self) -> Halt {
        let message = format!(
            "{} is public, so no credential shows that it is yours: register a confidential one, or correct the Secret",
            self.subject()
        );
        Halt::refused("PublicClient", message)
    }

    /// That its credential does not work.
    pub(super) fn refused(&self, why: &str) -> Halt {
        let message = format!(
            "The credential in Secret {} does not work: {why}. Correct the Secret, or the client at the authorization server",
            self.secret_name
        );
        Halt::refused("CredentialRefused", message)
    }

    fn subject(&self) -> String {
        format!("The client that Secret {} names", self.secret_name)
    }
}
