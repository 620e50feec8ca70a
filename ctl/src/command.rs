//! The commands: each reads what it needs and hands back a report.

mod about;
mod bgp;
mod bundle;
mod check;
mod config;
mod doctor;
mod ipam;
mod node;
mod removal;
mod status;
mod trace;
mod trial;
mod why;

use twill_cluster::inquiry::client::Wanted;
use twill_conf::node::NodeLayer;

use crate::arguments::{Arguments, BgpCommand, Command, ConfigCommand, IpamCommand, NodeCommand};
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;

/// Does what the command line asks for.
pub(crate) async fn run(arguments: &Arguments) -> Result<Report, Error> {
    let place = || {
        let variable = |variable: &str| std::env::var(variable).ok();
        let place = Place::find(&arguments.place, variable, || NodeLayer::from_file(None))?;
        Ok(Place { timeout: arguments.timeout, ..place })
    };
    match &arguments.command {
        Command::Config(ConfigCommand::Init { file }) => config::init(file.as_deref()),
        Command::Config(ConfigCommand::Validate { file }) => config::validate(file),
        Command::Config(ConfigCommand::Diff { file }) => config::diff(file, &place()?).await,
        Command::Config(ConfigCommand::Apply { file, flags, dry_run, expect_revision }) => {
            let how = config::How { force: flags.force, expected: *expect_revision };
            config::apply(file, how, *dry_run, &place()?).await
        }
        Command::Config(ConfigCommand::Edit { flags }) => config::edit(flags.force, &place()?).await,
        Command::Config(ConfigCommand::Show) => config::show(&place()?).await,
        Command::Status(flags) => status::status(flags, arguments.output, &place()?).await,
        Command::Why(what) => why::why(what, &place()?).await,
        Command::Doctor(flags) if flags.preflight => doctor::preflight(flags, &arguments.place),
        Command::Doctor(flags) => doctor::doctor(flags, &place()?).await,
        Command::Ipam(IpamCommand::Show(flags)) => ipam::show(flags, &place()?).await,
        Command::Ipam(IpamCommand::Check { fix }) => check::check(*fix, &place()?).await,
        Command::Ipam(IpamCommand::Attempts) => ipam::attempts(&place()?),
        Command::Bgp(BgpCommand::Peers { node, down }) => bgp::peers(node.as_ref(), *down, &place()?).await,
        Command::Bgp(BgpCommand::Routes { node, inside, peer }) => {
            let wanted = Wanted { inside: *inside, peer: peer.clone() };
            bgp::routes(node, wanted, &place()?).await
        }
        Command::Bgp(BgpCommand::Explain { destination, node }) => bgp::explain(*destination, node, &place()?).await,
        Command::Trace(flags) => trace::trace(flags, &place()?).await,
        Command::Bundle(flags) => bundle::bundle(flags, &place()?).await,
        Command::Version(flags) => about::version(*flags, place).await,
        Command::Completions(flags) => Ok(about::completions(flags.shell)),
        Command::Man(flags) => about::man(&flags.dir),
        Command::Test(flags) => trial::test(flags, &place()?).await,
        Command::Bench(flags) => trial::bench(flags, &place()?).await,
        Command::Node(NodeCommand::List) => node::list(&place()?).await,
        Command::Node(NodeCommand::Show { name }) => node::show(name, &place()?).await,
        Command::Node(NodeCommand::Drain { name, undo }) => node::drain(name, !undo, &place()?).await,
        Command::Node(NodeCommand::Delete { name, machine_is_off }) => {
            node::delete(name, *machine_is_off, &place()?).await
        }
    }
}
