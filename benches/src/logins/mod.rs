//! Kerberos logins over HTTP, each making a durable token, against the bare accept loop, and against the same LDAP
//! searches without a server.

mod accept;
mod clients;
mod drive;
mod searches;
mod world;

use std::time::Duration;

use hdrhistogram::Histogram;
use obol_directory::DirectoryConfig;
use obol_testbed::SambaAd;
use tempfile::TempDir;

use crate::limit::Limit;
use crate::load::Run;
use crate::process::Server;
use crate::quiet::{Meter, Tries, quietly};
use crate::rounds::{ROUNDS, Sum, slice};
use crate::table::{THROUGHPUT, Table, micros};
use crate::{Failure, Plan};
use accept::By;
pub(crate) use accept::{ACCEPTOR, GSSAPI, GSSAPI_WITH_NAME, serve_acceptor, serve_gssapi};
pub(crate) use clients::{CLIENTS, serve as serve_clients};
use clients::{Clients, Tokens};
use world::{USERS, World};

pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let plan = Plan {
        // Tokens are made before they are used, and live for five minutes.
        seconds: plan.seconds.min(LONGEST),
        ..plan
    };
    let realm = world::start_mit()?;
    let world = World::mit(&realm)?;
    let mut clients = Clients::start(&world.env, world.service)?;

    let mut table = Table::new("Logins over HTTP, 64 connections", &THROUGHPUT);
    let cached = cached_groups(plan, &world, &mut clients, &mut table).await?;
    // Samba needs root, and its packages.
    match world::start_ad() {
        Ok(domain) => from_pac(plan, &domain, cached.limit, &mut table).await?,
        Err(error) => eprintln!("  no logins with groups from the PAC: {error}"),
    }
    from_ldap(plan, &world, &mut clients, cached.limit, &mut table).await?;
    table.print();

    latency(cached.on_schedule);
    memory(plan, &world, &mut clients).await
}

/// What came of the logins with cached groups.
struct Cached {
    /// Of the bare accept loop, a second.
    limit: f64,
    on_schedule: Vec<Scheduled>,
}

async fn cached_groups(
    plan: Plan,
    world: &World,
    clients: &mut Clients,
    table: &mut Table,
) -> Result<Cached, Failure> {
    let puts = Limit::synced_puts()?;
    let durable = puts.measure(CONNECTIONS, slice(plan)).await?;
    let ready = Ready::start(world, clients, "1h").await?;
    let (mut loops, mut logins) = (AcceptLoops::default(), Sum::default());
    for _ in 0..ROUNDS {
        let tokens = clients.make(count(durable.per_second(), slice(plan)))?;
        let limit = loops.round(plan, world, &tokens, table).await?;
        let run = ready.measure_quietly(plan, clients, &limit, table).await?;
        logins.add(run, &limit)?;
        loops.limit.add(limit)?;
    }
    if ready.searches_for_users().await? != USERS as u64 {
        return Err("the directory was asked again for a user who was cached".into());
    }
    let limit = loops.limit.per_second();
    loops.rows(
        table,
        (
            "bare GSSAPI accept loop, a credential on each of 2 threads",
            "limit 1",
        ),
        "the same loop with our acceptor: name and digest, too",
    );
    table.measured(
        puts.name(),
        &durable.measured(),
        None,
        durable.per_second() / limit,
        "to compare",
    );
    table.measured(
        "login, groups cached (cache_ttl)",
        &logins.run.measured(),
        Some(ready.server.resident()?),
        logins.share(),
        "≥ 50 % of 1",
    );

    let mut on_schedule = Vec::new();
    for _ in 0..ROUNDS {
        let mut tries = Tries::default();
        while tries.wants_more() {
            let round = scheduled(plan, &ready, clients, limit).await?;
            tries.add(round.disturbed, round);
        }
        on_schedule.push(tries.quietest()?.0);
    }
    Ok(Cached { limit, on_schedule })
}

/// Some logins on a fixed schedule.
struct Scheduled {
    rate: f64,
    latencies: Histogram<u64>,
    /// What the host has kept of the processor.
    stolen: f64,
    /// The same, or by how much the server had become slower from before it to behind it, where that is more: then the
    /// schedule was made for another machine.
    disturbed: f64,
}

/// The load is a share of what the server takes at that moment: on a machine that is half as fast a minute later, a
/// schedule made from earlier rounds may be more than it can do at all.
async fn scheduled(
    plan: Plan,
    ready: &Ready,
    clients: &mut Clients,
    limit: f64,
) -> Result<Scheduled, Failure> {
    let mut stolen = 0.0_f64;
    let tokens = clients.make(count(limit, slice(plan)))?;
    let meter = Meter::begin()?;
    let before = ready.measure(&tokens, slice(plan)).await?.per_second();
    stolen = stolen.max(meter.stolen()?);
    let rate = before * LOAD;
    // Long enough for a flush to be in it.
    let tokens = clients.make(count(rate, 2 * slice(plan)))?;
    let meter = Meter::begin()?;
    let latencies = drive::open_loop(ready.server.address, CONNECTIONS, &tokens, rate).await?;
    stolen = stolen.max(meter.stolen()?);
    let tokens = clients.make(count(limit, slice(plan)))?;
    let meter = Meter::begin()?;
    let behind = ready.measure(&tokens, slice(plan)).await?.per_second();
    stolen = stolen.max(meter.stolen()?);
    Ok(Scheduled {
        rate,
        latencies,
        stolen,
        disturbed: stolen.max(1.0 - behind / before),
    })
}

impl Scheduled {
    fn p99(&self) -> u64 {
        self.latencies.value_at_quantile(0.99)
    }
}

fn latency(mut rounds: Vec<Scheduled>) {
    let mut table = Table::new(
        "Latency of logins on a fixed schedule, groups cached",
        &["what", "logins/s", "p50", "p99", "p99.9", "longest", "aim"],
    );
    rounds.sort_by_key(Scheduled::p99);
    let of = format!("of {} rounds", rounds.len());
    let middle = (
        format!("80 % of what they take: the middle one {of}"),
        "p99 ≤ 20 ms",
    );
    let slowest = (format!("the slowest {of}"), "to compare");
    for ((name, aim), round) in [
        (middle, rounds.get(rounds.len() / 2)),
        (slowest, rounds.last()),
    ] {
        let Some(round) = round else { continue };
        let at = |quantile| {
            micros(Duration::from_nanos(
                round.latencies.value_at_quantile(quantile),
            ))
        };
        table.row(&[
            name,
            format!("{:.0}", round.rate),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            aim.into(),
        ]);
        table.stolen(round.stolen);
    }
    table.print();
}

async fn from_pac(
    plan: Plan,
    domain: &SambaAd,
    accepted: f64,
    table: &mut Table,
) -> Result<(), Failure> {
    let world = World::ad(domain)?;
    let mut clients = Clients::start(&world.env, world.service)?;
    let ready = Ready::start(&world, &mut clients, "0").await?;
    let (mut loops, mut logins) = (AcceptLoops::default(), Sum::default());
    // While there is still somebody to give tickets out; with some to try again with.
    let tokens: Vec<Tokens> = (0..2 * ROUNDS)
        .map(|_| clients.make(count(accepted, slice(plan))))
        .collect::<Result<_, _>>()?;
    // Nobody but the server is asked at a login: the groups have their names.
    domain.stop()?;
    let mut sets = tokens.iter();
    for round in 1..=ROUNDS as usize {
        let limit = loops.round(plan, &world, &tokens[0], table).await?;
        let mut tries = Tries::default();
        while tries.wants_more() && !(tries.has_one() && sets.len() <= ROUNDS as usize - round) {
            let Some(tokens) = sets.next() else { break };
            let meter = Meter::begin()?;
            let run = ready.measure(tokens, slice(plan)).await?;
            tries.add(meter.stolen()?, run);
        }
        let (run, stolen) = tries.quietest()?;
        table.stolen(stolen);
        logins.add(run, &limit)?;
        loops.limit.add(limit)?;
    }
    loops.rows(
        table,
        ("bare GSSAPI accept loop, tickets with a PAC", "limit 2"),
        "the same loop with our acceptor: the PAC's groups, too",
    );
    table.measured(
        "login, groups from the PAC, the domain controller stopped",
        &logins.run.measured(),
        Some(ready.server.resident()?),
        logins.share(),
        "≥ 50 % of 2",
    );
    Ok(())
}

async fn from_ldap(
    plan: Plan,
    world: &World,
    clients: &mut Clients,
    accepted: f64,
    table: &mut Table,
) -> Result<(), Failure> {
    let kept = world.directory();
    let dialled = DirectoryConfig {
        idle_timeout: Duration::ZERO,
        ..kept.clone()
    };
    let search = |config: &DirectoryConfig| {
        let (config, time) = (config.clone(), slice(plan));
        tokio::task::spawn_blocking(move || searches::measure(&config, CONNECTIONS, time))
    };
    let ready = Ready::start(world, clients, "0").await?;
    let mut searched = Run::default();
    let (mut logins, mut dialling) = (Sum::default(), Sum::default());
    for _ in 0..ROUNDS {
        let limit = quietly(table, async || search(&kept).await?).await?;
        let run = ready.measure_quietly(plan, clients, &limit, table).await?;
        logins.add(run, &limit)?;
        dialling.add(search(&dialled).await??, &limit)?;
        searched.add(limit)?;
    }
    let limit = searched.per_second();
    table.measured(
        "search for user and groups, kept connections, no server",
        &searched.measured(),
        None,
        1.0,
        "limit 3",
    );
    table.measured(
        "login with such a search each (cache_ttl 0)",
        &logins.run.measured(),
        Some(ready.server.resident()?),
        logins.share(),
        "≥ 80 % of 3",
    );
    // Accepting and searching, one after the other on the same cores: more than this cannot be.
    let both = 1.0 / (1.0 / limit + 1.0 / accepted);
    table.row(&[
        "limits 1 and 3 on the same two cores (computed)".into(),
        format!("{both:.0}"),
        "—".into(),
        "—".into(),
        "—".into(),
        format!("{:.0} %", 100.0 * both / limit),
        "to compare".into(),
    ]);
    table.measured(
        "such a search, a connection dialled and bound for each",
        &dialling.run.measured(),
        None,
        dialling.share(),
        "to compare",
    );
    Ok(())
}

async fn memory(plan: Plan, world: &World, clients: &mut Clients) -> Result<(), Failure> {
    let ready = Ready::start(world, clients, "1h").await?;
    let before = ready.server.resident()?;
    let mut table = Table::new(
        "Memory over many logins, groups cached",
        &[
            "logins",
            "logins/s",
            "resident",
            "since the first tenth",
            "aim",
        ],
    );
    let row = |logins: usize, rate: String, resident: f64, more: String, aim: &str| {
        [
            logins.to_string(),
            rate,
            format!("{resident:.1} MiB"),
            more,
            aim.to_owned(),
        ]
    };
    table.row(&row(USERS, "—".into(), before, "—".into(), ""));
    let total = usize::try_from(plan.logins)?;
    let mut done = 0;
    let mut first_tenth = None;
    for (tenths, aim) in [(1, "to compare"), (5, "flat"), (10, "flat")] {
        let end = total * tenths / 10;
        let mut spent = Duration::ZERO;
        let begin = done;
        while done < end {
            let tokens = clients.make((end - done).min(AT_A_TIME))?;
            let measured = ready.measure(&tokens, Duration::MAX).await?;
            spent += measured.time;
            done += tokens.len();
        }
        let resident = ready.server.resident()?;
        let first = *first_tenth.get_or_insert(resident);
        table.row(&row(
            done,
            format!("{:.0}", (done - begin) as f64 / spent.as_secs_f64()),
            resident,
            format!("{:+.1} MiB", resident - first),
            aim,
        ));
    }
    table.print();
    Ok(())
}

/// A server that takes a world's tickets and has seen each of its users once.
struct Ready {
    server: Server,
    root: String,
    _dir: TempDir,
}

impl Ready {
    async fn start(world: &World, clients: &mut Clients, cache_ttl: &str) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let server = Server::start_in(&world.env, dir.path()).await?;
        let (root, _) = server.set_up().await?;
        world.configure(&server, &root, cache_ttl).await?;
        for token in clients.make(USERS)?.iter() {
            let login = drive::log_in(server.address, token).await?;
            if !world::has_policies_of_groups(&login)? {
                return Err("a login came without the policies of its user's groups".into());
            }
        }
        Ok(Self {
            server,
            root,
            _dir: dir,
        })
    }

    async fn measure(&self, tokens: &Tokens, time: Duration) -> Result<Run, Failure> {
        drive::closed_loop(self.server.address, CONNECTIONS, tokens, time).await
    }

    /// As many as a limit would let through, with tokens of its own for each try.
    async fn measure_quietly(
        &self,
        plan: Plan,
        clients: &mut Clients,
        limit: &Run,
        table: &mut Table,
    ) -> Result<Run, Failure> {
        let most = count(limit.per_second(), slice(plan));
        let mut tries = Tries::default();
        while tries.wants_more() {
            let tokens = clients.make(most)?;
            let meter = Meter::begin()?;
            let run = self.measure(&tokens, slice(plan)).await?;
            tries.add(meter.stolen()?, run);
        }
        let (run, stolen) = tries.quietest()?;
        table.stolen(stolen);
        Ok(run)
    }

    /// How often the cache of users asked the directory.
    async fn searches_for_users(&self) -> Result<u64, Failure> {
        let path = "/v1/auth/kerberos/cache";
        let cache = self.server.call("GET", path, &self.root, None).await?;
        let misses = cache["data"]["users"]["misses"].as_u64();
        misses.ok_or_else(|| "the cache shows no counters".into())
    }
}

/// The limit of logins, and what else is done with the same tickets in the same round.
#[derive(Default)]
struct AcceptLoops {
    limit: Run,
    named: Sum,
    acceptor: Sum,
}

impl AcceptLoops {
    /// Gives the limit of this round, which is to be added to `limit` once the round is over.
    async fn round(
        &mut self,
        plan: Plan,
        world: &World,
        tokens: &Tokens,
        table: &mut Table,
    ) -> Result<Run, Failure> {
        let limit = accept_loop(By::Gssapi, plan, world, tokens, table).await?;
        let named = accept_loop(By::GssapiWithName, plan, world, tokens, table).await?;
        self.named.add(named, &limit)?;
        let ours = accept_loop(By::Acceptor, plan, world, tokens, table).await?;
        self.acceptor.add(ours, &limit)?;
        Ok(limit)
    }

    fn rows(&self, table: &mut Table, (limit, number): (&str, &str), ours: &str) {
        table.measured(limit, &self.limit.measured(), None, 1.0, number);
        for (what, sum) in [
            ("the same loop, which asks whose ticket it was", &self.named),
            (ours, &self.acceptor),
        ] {
            table.measured(what, &sum.run.measured(), None, sum.share(), "to compare");
        }
    }
}

async fn accept_loop(
    by: By,
    plan: Plan,
    world: &World,
    tokens: &Tokens,
    table: &mut Table,
) -> Result<Run, Failure> {
    let time = slice(plan);
    let measure = async || {
        let World {
            env,
            keytab,
            account,
            ..
        } = world;
        accept::measure(by, env, keytab, account, tokens, time)
    };
    quietly(table, measure).await
}

fn count(per_second: f64, time: Duration) -> usize {
    ((per_second * time.as_secs_f64()) as usize).min(AT_MOST)
}

const CONNECTIONS: usize = 64;
/// Of what the server takes at most.
const LOAD: f64 = 0.8;
/// Tokens that are used up long before they are old.
const AT_A_TIME: usize = 20_000;
/// Tokens that may lie in memory: about two kilobytes each, in two processes.
const AT_MOST: usize = 100_000;
/// Seconds.
const LONGEST: u64 = 30;
