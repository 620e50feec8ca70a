//! The reference of all keys, and the JSON Schemas for editors: both made of the documents' types, so that neither says what the
//! other does not. `hack/reference` writes them into `docs/reference`; a test keeps them current.

mod page;
mod tidy;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::{cluster, network, node};

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// By a person, in TOML.
    Toml,
    /// For programs, in JSON.
    Json,
}

/// A document of users, and all that may stand in it.
#[derive(Debug, Clone)]
pub struct Document {
    /// The name of its files in `docs/reference`, as in `cluster-configuration`.
    pub name: &'static str,
    /// How it is written.
    pub form: Form,
    /// JSON Schema, draft 7, which editors know best. Nothing in it refers to anything else.
    pub schema: Value,
    title: &'static str,
    head: &'static str,
}

/// All of them.
pub fn documents() -> [Document; 3] {
    [
        Document {
            name: "cluster-configuration",
            form: Form::Toml,
            schema: schema::<cluster::document::Cluster>(),
            title: "The cluster configuration, key by key",
            head: "What may stand in the file that `twillctl config apply` puts into etcd. What it all means together, and how it is changed under \
                   running pods: [the guide](../cluster-configuration.md).",
        },
        Document {
            name: "node-configuration",
            form: Form::Toml,
            schema: schema::<node::document::Node>(),
            title: "The configuration of a node, key by key",
            head: "What may stand in `/etc/twill/twilld.toml`, or the file given to `twilld` with `--config`. Each key has a flag (`run_dir`: \
                   `--run-dir`) and an environment variable (`TWILLD_RUN_DIR`); flags win over variables, variables over the file. In a \
                   flag or a variable, lists are comma-separated, and labels are written as `zone=a,disk=fast`. A commented file to begin \
                   with: [twilld.toml](../../conf/samples/twilld.toml). How etcd is reached: [etcd](../etcd.md). Which interface it is: \
                   [underlay](../underlay.md).",
        },
        Document {
            name: "network-configuration",
            form: Form::Json,
            schema: schema::<network::document::List>(),
            title: "The network configuration, key by key",
            head: "What may stand in a file of `/etc/cni/net.d` whose plugin is `twill`, and what a runtime hands over. What it all means \
                   together: [the guide](../network-configuration.md).",
        },
    ]
}

impl Document {
    /// The schema as a file.
    pub fn schema_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.schema).expect("a schema is JSON");
        text.push('\n');
        text
    }

    /// The reference as a page of Markdown.
    pub fn page(&self) -> String {
        page::write(self)
    }
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = Value::from(settings.into_generator().into_root_schema_for::<T>());
    tidy::tidy(&mut schema);
    schema
}
