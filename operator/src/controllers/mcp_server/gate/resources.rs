//! What the pods of a gate ask for and may use: pure.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};
use mcp_auth_crds::v1alpha1::{CpuAmount, GateResources, MemoryAmount, ResourceAmounts};

use crate::{config::GateConfig, policy::Refusal};

/// What a pod gets when its server asks for nothing: thousandths of a processor, and bytes.
const REQUEST: (u64, u64) = (50, 64 << 20);
/// The memory that it may use at most when its server says nothing.
const MEMORY_LIMIT: u64 = 256 << 20;

/// Amounts of processors, in thousandths, and of memory, in bytes.
type Amounts = (Option<u64>, Option<u64>);

/// What is asked for, filled up by defaults, as Kubernetes takes it.
///
/// # Errors
/// When it is more than the platform allows, or requests exceed limits.
pub(super) fn resources(asked: &GateResources, config: &GateConfig) -> Result<ResourceRequirements, Refusal> {
    let (requests, limits) = (amounts(asked.requests.as_ref()), amounts(asked.limits.as_ref()));
    let most = (config.max_cpu_millis, config.max_memory_bytes);
    for (cpu, memory) in [requests, limits] {
        if cpu.is_some_and(|cpu| cpu > most.0) || memory.is_some_and(|memory| memory > most.1) {
            return Err(Refusal::new(
                "GateResourcesNotAllowed",
                format!(
                    "One pod of a gate gets at most {} of cpu and {} of memory here: ask for less in enforcement.gate.resources",
                    cpu_text(most.0),
                    memory_text(most.1)
                ),
            ));
        }
    }
    let exceeds =
        |request: Option<u64>, limit: Option<u64>| matches!((request, limit), (Some(r), Some(l)) if r > l);
    if exceeds(requests.0, limits.0) || exceeds(requests.1, limits.1) {
        return Err(Refusal::new(
            "GateResourcesInvalid",
            "The requests of enforcement.gate.resources exceed its limits: no pod can have that",
        ));
    }
    // What nobody asked for gives way to what somebody did.
    let memory_limit = limits
        .1
        .unwrap_or(MEMORY_LIMIT.max(requests.1.unwrap_or_default()).min(most.1));
    let cpu = requests.0.unwrap_or(REQUEST.0.min(limits.0.unwrap_or(most.0)));
    let memory = requests.1.unwrap_or(REQUEST.1.min(memory_limit));
    Ok(ResourceRequirements {
        requests: Some(quantities(Some(cpu), memory)),
        limits: Some(quantities(limits.0, memory_limit)),
        ..ResourceRequirements::default()
    })
}

fn amounts(amounts: Option<&ResourceAmounts>) -> Amounts {
    let cpu = amounts
        .and_then(|amounts| amounts.cpu.as_ref())
        .and_then(CpuAmount::millis);
    let memory = amounts
        .and_then(|amounts| amounts.memory.as_ref())
        .and_then(MemoryAmount::bytes);
    (cpu, memory)
}

fn quantities(cpu: Option<u64>, memory: u64) -> BTreeMap<String, Quantity> {
    let cpu = cpu.map(|cpu| ("cpu".to_owned(), Quantity(cpu_text(cpu))));
    let memory = ("memory".to_owned(), Quantity(memory_text(memory)));
    cpu.into_iter().chain([memory]).collect()
}

/// As the API server gives it back: what it spells differently would look changed for ever.
fn cpu_text(millis: u64) -> String {
    if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        format!("{millis}m")
    }
}

/// As the API server gives it back.
fn memory_text(bytes: u64) -> String {
    let units = [
        (1_u64 << 40, "Ti"),
        (1 << 30, "Gi"),
        (1 << 20, "Mi"),
        (1 << 10, "Ki"),
    ];
    let fitting = units
        .into_iter()
        .find(|(worth, _)| bytes.is_multiple_of(*worth) && bytes > 0);
    fitting.map_or_else(
        || bytes.to_string(),
        |(worth, unit)| format!("{}{unit}", bytes / worth),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config() -> GateConfig {
        GateConfig {
            max_cpu_millis: 2000,
            max_memory_bytes: 1 << 30,
            ..GateConfig::default()
        }
    }

    #[test]
    fn defaults_give_way_to_what_somebody_asked_for() {
        for (asked, requests, limits) in [
            (
                json!({}),
                json!({"cpu": "50m", "memory": "64Mi"}),
                json!({"memory": "256Mi"}),
            ),
            (
                json!({"limits": {"cpu": "20m", "memory": "32Mi"}}),
                json!({"cpu": "20m", "memory": "32Mi"}),
                json!({"cpu": "20m", "memory": "32Mi"}),
            ),
            (
                json!({"requests": {"memory": "512Mi"}}),
                json!({"cpu": "50m", "memory": "512Mi"}),
                json!({"memory": "512Mi"}),
            ),
            (
                json!({"requests": {"cpu": "1000m"}, "limits": {"memory": "1024Mi"}}),
                json!({"cpu": "1", "memory": "64Mi"}),
                json!({"memory": "1Gi"}),
            ),
        ] {
            let made = resources(&serde_json::from_value(asked.clone()).unwrap(), &config()).unwrap();
            let made: Value = serde_json::to_value(made).unwrap();
            assert_eq!(
                (&made["requests"], &made["limits"]),
                (&requests, &limits),
                "{asked}"
            );
        }
    }

    #[test]
    fn nobody_gets_more_than_the_platform_allows() {
        for (asked, reason) in [
            (json!({"limits": {"memory": "2Gi"}}), "GateResourcesNotAllowed"),
            (json!({"requests": {"cpu": "2001m"}}), "GateResourcesNotAllowed"),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                "GateResourcesInvalid",
            ),
            (
                json!({"requests": {"memory": "2Mi"}, "limits": {"memory": "1Mi"}}),
                "GateResourcesInvalid",
            ),
        ] {
            let refusal = resources(&serde_json::from_value(asked.clone()).unwrap(), &config()).unwrap_err();
            assert_eq!(refusal.reason, reason, "{asked}");
        }
    }
}
