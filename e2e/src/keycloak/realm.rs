//! A realm of its own for each story, with the credential that a platform admin would give the operator.

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::Admin;
use crate::secrets;

/// The client that the operator signs in with, in each realm.
pub const OPERATOR_CLIENT: &str = "mcp-operator";

/// The roles of `realm-management` that the operator is told to be given: clients and client scopes, and the
/// client policies, which belong to the realm.
pub const OPERATOR_ROLES: [&str; 2] = ["manage-clients", "manage-realm"];

/// One realm of the shared Keycloak.
pub struct Realm {
    name: String,
    issuer: String,
    admin: Admin,
    operator_secret: SecretString,
}

impl Realm {
    pub(super) async fn create(admin: &Admin, name: &str, roles: &[&str]) -> anyhow::Result<Self> {
        let settings = json!({ "realm": name, "enabled": true, "components": signing_keys()? });
        admin.post("/admin/realms", &settings).await?;
        // Keycloak may know itself under another address than the one where we reach it.
        let realm = admin
            .get(&format!("/realms/{name}/.well-known/openid-configuration"))
            .await?;
        let realm = Self {
            name: name.to_owned(),
            issuer: realm["issuer"]
                .as_str()
                .context("a realm without an issuer")?
                .to_owned(),
            admin: admin.in_realm(name),
            operator_secret: secrets::random(),
        };
        realm
            .create_operator_client(OPERATOR_CLIENT, &realm.operator_secret)
            .await?;
        for role in roles {
            realm.grant_operator_role(role).await?;
        }
        Ok(realm)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Calls of the Admin API with all rights, on paths inside the realm like `/clients`.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The id of the operator's client.
    pub fn operator_client_id(&self) -> &'static str {
        OPERATOR_CLIENT
    }

    /// The secret of the operator's client.
    pub fn operator_client_secret(&self) -> &SecretString {
        &self.operator_secret
    }

    /// Makes a user who can sign in at once. Gives the user's id, the `sub` of their tokens.
    pub async fn create_user(&self, username: &str, password: &str) -> anyhow::Result<String> {
        let user = json!({
            "username": username,
            "enabled": true,
            // All of the profile: otherwise the first login asks for the rest.
            "email": format!("{username}@example.com"),
            "emailVerified": true,
            "firstName": username,
            "lastName": "Example",
            "credentials": [{ "type": "password", "value": password, "temporary": false }],
        });
        self.admin.create("/users", &user).await
    }

    /// The client with exactly this client id, if there is one.
    pub async fn find_client(&self, client_id: &str) -> anyhow::Result<Option<Value>> {
        let query = url::form_urlencoded::byte_serialize(client_id.as_bytes()).collect::<String>();
        let found = self.admin.get(&format!("/clients?clientId={query}")).await?;
        Ok(found.get(0).cloned())
    }

    /// Gives the operator's client a role of `realm-management`. Tokens that it already has do not show it.
    pub async fn grant_operator_role(&self, role: &str) -> anyhow::Result<()> {
        let (path, role) = self.role_of(OPERATOR_CLIENT, role).await?;
        self.admin.post(&path, &json!([role])).await.map(drop)
    }

    /// Takes a role from the operator's client again. Tokens that it already has keep it.
    pub async fn revoke_operator_role(&self, role: &str) -> anyhow::Result<()> {
        let (path, role) = self.role_of(OPERATOR_CLIENT, role).await?;
        self.admin.delete_with(&path, &json!([role])).await
    }

    /// Makes another client that an operator can sign in with, with these roles. Gives its secret.
    pub async fn add_operator_client(&self, client_id: &str, roles: &[&str]) -> anyhow::Result<SecretString> {
        let secret = secrets::random();
        self.create_operator_client(client_id, &secret).await?;
        for role in roles {
            let (path, role) = self.role_of(client_id, role).await?;
            self.admin.post(&path, &json!([role])).await?;
        }
        Ok(secret)
    }

    /// Removes the realm with everything in it.
    pub async fn delete(&self) -> anyhow::Result<()> {
        self.admin.delete("").await
    }

    async fn create_operator_client(&self, client_id: &str, secret: &SecretString) -> anyhow::Result<()> {
        let client = json!({
            "clientId": client_id,
            "protocol": "openid-connect",
            "publicClient": false,
            "bearerOnly": false,
            "secret": secret.expose_secret(),
            "serviceAccountsEnabled": true,
            "standardFlowEnabled": false,
            "implicitFlowEnabled": false,
            "directAccessGrantsEnabled": false,
            // Its tokens carry the roles it is given below.
            "fullScopeAllowed": true,
        });
        self.admin.create("/clients", &client).await.map(drop)
    }

    /// Where roles of a client's service account are mapped, and the role as Keycloak describes it.
    async fn role_of(&self, client_id: &str, role: &str) -> anyhow::Result<(String, Value)> {
        let client = self.client_uuid(client_id).await?;
        let management = self.client_uuid("realm-management").await?;
        let account = self
            .admin
            .get(&format!("/clients/{client}/service-account-user"))
            .await?;
        let account = account["id"]
            .as_str()
            .context("a service account without an id")?;
        let role = self
            .admin
            .get(&format!("/clients/{management}/roles/{role}"))
            .await?;
        Ok((
            format!("/users/{account}/role-mappings/clients/{management}"),
            role,
        ))
    }

    async fn client_uuid(&self, client_id: &str) -> anyhow::Result<String> {
        let client = self
            .find_client(client_id)
            .await?
            .with_context(|| format!("there is no client {client_id}"))?;
        client["id"]
            .as_str()
            .map(str::to_owned)
            .context("a client without an id")
    }
}

/// Keys for a new realm. Keycloak would make its own, but takes seconds to find an RSA key; here it is done in a
/// fraction of one, and tokens are signed with RS256 all the same.
fn signing_keys() -> anyhow::Result<Value> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?.serialize_pem();
    Ok(json!({
        "org.keycloak.keys.KeyProvider": [
            {
                "name": "rsa",
                "providerId": "rsa",
                "config": { "priority": ["100"], "algorithm": ["RS256"], "privateKey": [key] },
            },
            { "name": "hmac", "providerId": "hmac-generated", "config": { "algorithm": ["HS512"] } },
            { "name": "aes", "providerId": "aes-generated", "config": {} },
        ],
    }))
}
