//! What runs in a pod: the commands of the reference's image and scripts.
//!
//! They need neither a shell nor another program, so an image can do with this binary alone.
//!
//! | module | command | link |
//! |---|---|---|
//! | [`start`] | `oxkeeper start` | `start-zookeeper` |
//! | [`supervise`] | process 1 of a container | |
//! | [`ready`] | `oxkeeper ready` | `zookeeper-ready`, `zkOk.sh` |
//! | [`metrics`] | `oxkeeper metrics` | `zookeeper-metrics`, `zkMetrics.sh` |
//! | [`gen_config`] | `oxkeeper gen-config` | `zkGenConfig.sh` |
//! | [`control`] | `oxkeeper control` | `zkServer.sh` |
//! | [`purge`] | `oxkeeper purge` | `zkCleanup.sh` |
//!
//! Source: `docs/spec/kubernetes.md` 3 and 4, `docs/spec/operations.md` 6.

pub mod control;
mod fatal;
pub mod gen_config;
pub mod metrics;
pub mod purge;
pub mod ready;
mod script_env;
mod server_process;
mod sh;
pub mod start;
mod supervise;

/// The value of an environment variable of the image. Empty means unset, and so does `tcp://…`: what
/// Kubernetes sets for a Service whose name happens to make the same variable.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| is_meant(value))
}

fn is_meant(value: &str) -> bool {
    !value.is_empty() && !value.starts_with("tcp://")
}

/// The client port that the image's variables name, else 2181.
fn client_port() -> Result<u16, String> {
    match variable("ZK_CLIENT_PORT") {
        Some(text) => port(&text).map_err(|error| format!("ZK_CLIENT_PORT: {error}")),
        None => Ok(crate::servers::DEFAULT_PORT),
    }
}

/// A port as a word of the command line.
fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("'{text}' is not a port: a number from 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_kubernetes_made_for_a_service_is_not_meant() {
        assert!(!is_meant("tcp://10.0.0.7:2181") && !is_meant(""));
        assert!(is_meant("2181"));
    }

    #[test]
    fn a_port_is_a_number_from_1_to_65535() {
        assert_eq!(port("2181"), Ok(2181));
        for wrong in ["0", "65536", "-1", "x", ""] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
