//! When and how a credential is replaced, and how far that is.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{common::DurationText, rules};

/// When and how a credential is replaced.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::shorter("overlap", "interval", "no more than two credentials are ever valid"),
    validation = Rule::new("!has(self.window) || has(self.interval)")
        .message("window says when the credential is replaced by itself: it needs interval")
        .field_path(".window")
)]
pub struct Rotation {
    /// Age at which the credential is replaced by itself, between 1m and 87600h (ten years). Absent: only when asked for
    /// by annotation, or when the authorization server would let it expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::between("1m", "87600h"))]
    pub interval: Option<DurationText>,

    /// How long the old credential stays valid beside the new one, where the authorization server can do that; between
    /// 0s and 720h, and 1h when absent. Longer than a workload takes to read its Secret again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::between("0s", "720h"))]
    pub overlap: Option<DurationText>,

    /// When a credential that has reached its age is replaced. Absent: at once. What is asked for by annotation does not
    /// wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<RotationWindow>,
}

/// A recurring span of time.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RotationWindow {
    /// When it begins: minute, hour, day of month, month and day of week as in cron, such as `0 2 * * 6`.
    #[schemars(length(min = 9, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9A-Za-z*,/#-]+( [0-9A-Za-z*,/#-]+){4}$')")
        .message("write five fields separated by single spaces: minute, hour, day of month, month, day of week"))]
    pub schedule: String,

    /// The IANA time zone of `schedule`, such as Europe/Berlin; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')")
        .message("write the name of a time zone, such as Europe/Berlin"))]
    pub time_zone: Option<String>,

    /// How long it lasts, between 10m and 168h.
    #[x_kube(validation = rules::between("10m", "168h"))]
    pub duration: DurationText,
}

/// Where the credential is on its way from one to the next.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// When the credential was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotated: Option<String>,
    /// When it is to be replaced by itself (RFC 3339): when it is due, or when the next window after that begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Until when the credential before it is valid as well (RFC 3339); absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_valid_until: Option<String>,
    /// How far a replacement is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RotationPhase>,
    /// Whether the old credential stays valid for a while when it is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
}

/// How far the replacement of a credential is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationPhase {
    /// One credential is valid.
    Settled,
    /// A new one is on its way to the authorization server and to the Secret.
    Rotating,
    /// The new one was proved, and the old one is still valid.
    Overlapping,
}

/// Whether the old credential stays valid for a while when it is replaced.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// It does.
    Supported,
    /// The authorization server ends it at once: workloads fail from then until they have read the new one.
    Unsupported,
}
