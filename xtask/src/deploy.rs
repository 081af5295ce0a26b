//! Tests of what is published for Kubernetes (`deploy/tests`), with Helm from its Go module.

use std::path::PathBuf;

use crate::install;
use crate::tools::{self, Outcome, command, compat_cache, on_path};

/// The version that renders the chart for the snapshots.
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.19.0";

/// Runs them. What needs `kubectl` or `helm` is skipped where these are absent, with a word.
pub fn test() -> Outcome {
    let mut pytest = command(install::python(), &["-m", "pytest", "-q", "-rs", "deploy/tests"]);
    if let Some(helm) = helm()? {
        pytest.env("HELM", helm);
    }
    tools::run(&mut pytest)?;
    let steps =
        ["-m", "unittest", "discover", "-q", "-s", "deploy/kubernetes", "-t", "deploy/kubernetes"];
    tools::run(&mut command(install::python(), &steps))
}

/// Helm: the one on the path, or built once.
fn helm() -> Outcome<Option<PathBuf>> {
    let bin = compat_cache().join("bin");
    let helm = bin.join("helm");
    if helm.exists() {
        return Ok(Some(helm));
    }
    if on_path("helm") {
        return Ok(Some("helm".into()));
    }
    if !on_path("go") {
        eprintln!("neither helm nor go is here: the chart is not rendered");
        return Ok(None);
    }
    let mut build = command("go", &["install", HELM]);
    build.env("GOBIN", &bin).env("GOFLAGS", "-trimpath -p=2").env("CGO_ENABLED", "0");
    tools::run(&mut build)?;
    Ok(Some(helm))
}
