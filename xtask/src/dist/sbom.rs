//! The bill of materials: what is in the binary, as `CycloneDX` 1.6 JSON.

use serde_json::{Map, Value, json};

use super::crates::{Crate, Crates};
use super::release::Release;
use crate::static_build::Arch;

/// The document. It has no serial number, which would differ from build to build.
pub(super) fn text(release: &Release, crates: &Crates, arch: Arch) -> String {
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": release.date("+%Y-%m-%dT%H:%M:%SZ").unwrap_or_default(),
            "component": {
                "type": "application",
                "bom-ref": "smtptrace",
                "name": "smtptrace",
                "version": release.version,
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
                "properties": [{"name": "smtptrace:arch", "value": arch.name()}],
            },
        },
        "components": crates.0.iter().map(component).collect::<Vec<_>>(),
        "dependencies": dependencies(crates),
    });
    format!("{document:#}\n")
}

fn component(it: &Crate) -> Value {
    let mut component = Map::new();
    let mut set = |name: &str, value: Value| component.insert(name.to_owned(), value);
    set("type", "library".into());
    set("bom-ref", reference(it).into());
    set("name", it.name.clone().into());
    set("version", it.version.clone().into());
    if let Some(license) = &it.license {
        set("licenses", json!([{"expression": license}]));
    }
    if let Some(checksum) = &it.checksum {
        set("hashes", json!([{"alg": "SHA-256", "content": checksum}]));
        set("purl", reference(it).into());
    }
    component.into()
}

/// What the document calls a crate: its package URL. A crate of this workspace is in no registry and has none.
fn reference(it: &Crate) -> String {
    let kind = if it.is_ours() { "workspace" } else { "pkg:cargo" };
    format!("{kind}/{}@{}", it.name, it.version.replace('+', "%2B"))
}

fn dependencies(crates: &Crates) -> Vec<Value> {
    let of_id = |id: &String| crates.0.iter().find(|it| it.id == *id).map(reference);
    let top = crates.0.iter().filter(|it| it.is_ours()).map(reference).collect::<Vec<_>>();
    let whole = json!({"ref": "smtptrace", "dependsOn": top});
    let each = crates.0.iter().map(|it| {
        let uses: Vec<String> = it.uses.iter().filter_map(of_id).collect();
        json!({"ref": reference(it), "dependsOn": uses})
    });
    std::iter::once(whole).chain(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_has_its_sum_and_its_package_url() {
        let it = Crate {
            name: "zstd-sys".into(),
            version: "2.1.2+zstd.1.5.7".into(),
            id: "registry#zstd-sys@2.1.2".into(),
            license: Some("BSD-3-Clause".into()),
            directory: "/".into(),
            checksum: Some("00ff".into()),
            uses: std::collections::BTreeSet::new(),
        };
        let shown = component(&it);
        assert_eq!(shown["purl"], "pkg:cargo/zstd-sys@2.1.2%2Bzstd.1.5.7");
        assert_eq!(shown["hashes"][0]["content"], "00ff");
        assert_eq!(shown["licenses"][0]["expression"], "BSD-3-Clause");
        let ours = component(&Crate { checksum: None, ..it });
        assert_eq!(ours.get("purl"), None);
    }
}
