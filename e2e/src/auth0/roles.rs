//! `/api/v2/roles` and `/api/v2/users/{id}/roles`: what users are permitted at APIs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    errors::Refusal,
    limits::Entity,
    pages::{LISTING, Listing},
    schema::{Field, Kind, check, need},
    tenant::{Call, Outcome, Tenant, random_id, scopes_of},
    wire::{Answer, Object, object, text, texts},
};

/// A role.
pub(super) struct Role {
    pub(super) fields: Object,
    /// Identifiers of APIs, and names of permissions there.
    pub(super) permissions: BTreeSet<(String, String)>,
}

const FIELDS: &[Field] = &[
    Field("name", Kind::Text(1, 255)),
    Field("description", Kind::Text(0, 255)),
];
const PERMISSIONS: &[Field] = &[Field("permissions", Kind::List(&PERMISSION, 50))];
const PERMISSION: Kind = Kind::Object(&[
    Field("resource_server_identifier", Kind::Text(1, 600)),
    Field("permission_name", Kind::Text(1, 280)),
]);
const ROLES: &[Field] = &[Field("roles", Kind::List(&Kind::Text(1, 64), 50))];

pub(super) fn list(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let name = call.request.query("name_filter");
    let rows = tenant
        .roles
        .iter()
        .filter(|(_, role)| name.is_none_or(|name| text(&role.fields, "name").contains(name)));
    let listing = Listing {
        name: "roles",
        offset: true,
        filters: &["name_filter"],
        ..LISTING
    };
    listing.answer(
        call.request,
        rows.map(|(number, role)| (number, role.fields.clone())),
    )
}

/// Answers 200, not 201.
pub(super) fn create(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let mut body = call.request.object()?;
    check(&body, &[FIELDS])?;
    need(&body, &["name"])?;
    let same = |role: &Role| role.fields.get("name") == body.get("name");
    if tenant.roles.find(same).is_some() {
        return Err(Refusal::conflict("A role with this name already exists."));
    }
    tenant.room(Entity::Roles, tenant.roles.len())?;
    body.insert("id".to_owned(), json!(random_id("rol_", 16)));
    tenant.roles.insert(Role {
        fields: body.clone(),
        permissions: BTreeSet::new(),
    });
    Ok(Answer::ok(body))
}

pub(super) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    Ok(Answer::ok(find(tenant, call)?.fields.clone()))
}

pub(super) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[FIELDS])?;
    let role = find(tenant, call)?;
    role.fields.extend(body);
    Ok(Answer::ok(role.fields.clone()))
}

/// Answers 200, not 204.
pub(super) fn delete(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    find(tenant, call)?;
    tenant.roles.remove(|role| text(&role.fields, "id") == call.id());
    for user in tenant.users.values_mut() {
        user.roles.remove(call.id());
    }
    Ok(Answer::ok(json!({})))
}

pub(super) fn permissions(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let permissions = find(tenant, call)?.permissions.clone();
    let rows = permissions
        .into_iter()
        .map(|(api, name)| object(json!({"resource_server_identifier": api, "permission_name": name})));
    let listing = Listing {
        name: "permissions",
        offset: true,
        ..LISTING
    };
    listing.answer(call.request, (1..).zip(rows))
}

pub(super) fn add_permissions(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let permissions = read_permissions(call)?;
    for (api, name) in &permissions {
        let server = tenant.api(api).ok_or_else(Refusal::no_resource_server)?;
        if !scopes_of(server).contains(name) {
            return Err(Refusal::body(&format!("The API has no permission {name}")));
        }
    }
    find(tenant, call)?.permissions.extend(permissions);
    Ok(Answer::created(json!({})))
}

/// A DELETE with a body.
pub(super) fn remove_permissions(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let permissions = read_permissions(call)?;
    let role = find(tenant, call)?;
    role.permissions
        .retain(|permission| !permissions.contains(permission));
    Ok(Answer::nothing())
}

pub(super) fn of_user(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let user = tenant.users.find(|user| user.id == call.id());
    let user = user.ok_or_else(|| Refusal::not_found("The user does not exist."))?;
    let rows = tenant.roles.iter();
    let rows = rows.filter(|(_, role)| user.roles.contains(text(&role.fields, "id")));
    let listing = Listing {
        name: "roles",
        offset: true,
        ..LISTING
    };
    listing.answer(
        call.request,
        rows.map(|(number, role)| (number, role.fields.clone())),
    )
}

pub(super) fn assign(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[ROLES])?;
    need(&body, &["roles"])?;
    let roles = texts(&body, "roles");
    let exists = |id: &&str| {
        tenant
            .roles
            .find(|role| text(&role.fields, "id") == *id)
            .is_some()
    };
    if !roles.iter().all(exists) {
        return Err(Refusal::not_found("The role does not exist."));
    }
    let user = tenant.users.find_mut(|user| user.id == call.id());
    let user = user.ok_or_else(|| Refusal::not_found("The user does not exist."))?;
    user.roles.extend(roles.into_iter().map(str::to_owned));
    Ok(Answer::nothing())
}

fn find<'a>(tenant: &'a mut Tenant, call: &Call<'_>) -> Result<&'a mut Role, Refusal> {
    let found = tenant
        .roles
        .find_mut(|role| text(&role.fields, "id") == call.id());
    found.ok_or_else(|| Refusal::not_found("The role does not exist."))
}

fn read_permissions(call: &Call<'_>) -> Result<BTreeSet<(String, String)>, Refusal> {
    let body = call.request.object()?;
    check(&body, &[PERMISSIONS])?;
    need(&body, &["permissions"])?;
    let list = body.get("permissions").and_then(Value::as_array);
    let mut permissions = BTreeSet::new();
    for permission in list.into_iter().flatten().filter_map(Value::as_object) {
        need(permission, &["resource_server_identifier", "permission_name"])?;
        permissions.insert((
            text(permission, "resource_server_identifier").to_owned(),
            text(permission, "permission_name").to_owned(),
        ));
    }
    Ok(permissions)
}
