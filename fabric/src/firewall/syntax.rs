//! Short words for the nftables expressions that our rules are made of (libnftables-json(5)).

use std::borrow::Cow;
use std::collections::HashSet;

use ipnetwork::IpNetwork;
use nftables::expr::{
    Expression, Exthdr, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadBase, PayloadField,
    PayloadRaw, Prefix, RT, RTKey, SetItem, TcpOption,
};
use nftables::schema::{Chain, NfListObject, Rule, Set, SetFlag, SetType, SetTypeValue};
use nftables::stmt::{JumpTarget, Mangle, Match, NAT, NATFlag, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::TABLE;
use crate::family::Family;

pub(super) type Object = NfListObject<'static>;
pub(super) type Term = Expression<'static>;
pub(super) type Step = Statement<'static>;

/// A chain without a hook, for rules that others jump to.
pub(super) fn chain(name: &'static str) -> Object {
    NfListObject::Chain(chain_named(name))
}

/// A chain at a hook, with the policy `accept`.
pub(super) fn base_chain(name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) -> Object {
    NfListObject::Chain(Chain {
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..chain_named(name)
    })
}

fn chain_named(name: &'static str) -> Chain<'static> {
    Chain { family: NfFamily::INet, table: TABLE.into(), name: name.into(), ..Chain::default() }
}

/// The chain of a rule; `None` of what is none.
pub(super) fn chain_of(object: &Object) -> Option<&str> {
    match object {
        NfListObject::Rule(rule) => Some(&rule.chain),
        _ => None,
    }
}

pub(super) fn rule(chain: &'static str, steps: impl Into<Vec<Step>>) -> Object {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: Cow::Owned(steps.into()),
        ..Rule::default()
    })
}

/// A named set: of single addresses, whose members are told apart; or of prefixes, which must not overlap.
pub(super) fn set(name: String, family: Family, prefixes: Option<Vec<Term>>) -> Object {
    let kind = match family {
        Family::V4 => SetType::Ipv4Addr,
        Family::V6 => SetType::Ipv6Addr,
    };
    let flags = prefixes.is_some().then(|| HashSet::from([SetFlag::Interval]));
    let elem = prefixes.filter(|prefixes| !prefixes.is_empty()).map(Cow::Owned);
    set_of(kind, name, Set { flags, elem, ..Set::default() })
}

/// A named set of interfaces, by their names: changed with the rules that name it.
pub(super) fn interfaces(name: &str, elements: impl Iterator<Item = Term>) -> Object {
    let elem = Some(elements.collect::<Vec<_>>().into());
    set_of(SetType::Ifname, name.to_owned(), Set { elem, ..Set::default() })
}

fn set_of(kind: SetType, name: String, rest: Set<'static>) -> Object {
    NfListObject::Set(Box::new(Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type: SetTypeValue::Single(kind),
        ..rest
    }))
}

pub(super) fn is(left: Term, right: Term) -> Step {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

pub(super) fn is_not(left: Term, right: Term) -> Step {
    Statement::Match(Match { left, right, op: Operator::NEQ })
}

pub(super) fn text(text: impl Into<String>) -> Term {
    Expression::String(Cow::Owned(text.into()))
}

pub(super) fn meta(key: MetaKey) -> Term {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

/// A field of a header, by nft's names for both.
pub(super) fn field(protocol: &'static str, field: &'static str) -> Term {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

/// The fragment header of IPv6 (RFC 8200 section 4.5): whether there is one, or a field of it.
pub(super) fn fragment(field: Option<&'static str>) -> Term {
    let header = Exthdr { name: "frag".into(), field: field.map(Cow::Borrowed), offset: None };
    Expression::Named(NamedExpression::Exthdr(header))
}

/// Bits from the beginning of the transport header on.
pub(super) fn transport_bits(offset: u32, len: u32) -> Term {
    let raw = PayloadRaw { base: PayloadBase::TH, offset, len };
    Expression::Named(NamedExpression::Payload(Payload::PayloadRaw(raw)))
}

/// nft's name for the header of a family.
pub(super) fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

pub(super) fn fib(result: FibResult, flags: impl IntoIterator<Item = FibFlag>) -> Term {
    Expression::Named(NamedExpression::Fib(Fib { result, flags: flags.into_iter().collect() }))
}

pub(super) fn prefix(prefix: IpNetwork) -> Term {
    let addr = Box::new(text(prefix.network().to_string()));
    Expression::Named(NamedExpression::Prefix(Prefix { addr, len: prefix.prefix().into() }))
}

pub(super) fn any_of(terms: impl IntoIterator<Item = Term>) -> Term {
    Expression::Named(NamedExpression::Set(terms.into_iter().map(SetItem::Element).collect()))
}

pub(super) fn jump(chain: &'static str) -> Step {
    Statement::Jump(JumpTarget { target: chain.into() })
}

/// Matches the first packets of a TCP connection, from both sides.
pub(super) fn tcp_begins() -> Step {
    Statement::Match(Match { left: field("tcp", "flags"), right: text("syn"), op: Operator::IN })
}

/// Lowers the greatest segment that a TCP packet offers to what its route carries.
pub(super) fn clamp_mss() -> Step {
    let size = TcpOption { name: "maxseg".into(), field: Some("size".into()) };
    let key = Expression::Named(NamedExpression::TcpOption(size));
    Statement::Mangle(Mangle {
        key,
        value: Expression::Named(NamedExpression::RT(RT { key: RTKey::MTU, family: None })),
    })
}

pub(super) fn masquerade() -> Step {
    let flags = Some(HashSet::from([NATFlag::FullyRandom]));
    Statement::Masquerade(Some(NAT { addr: None, family: None, port: None, flags }))
}

pub(super) const DROP: Step = Statement::Drop(None);
pub(super) const ACCEPT: Step = Statement::Accept(None);
pub(super) const RETURN: Step = Statement::Return(None);
pub(super) const NOTRACK: Step = Statement::Notrack;
