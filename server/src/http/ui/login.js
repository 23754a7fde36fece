// Signs in with the browser's Kerberos ticket and shows what came of it. The browser does the negotiating: it sees the
// server's challenge, gets a ticket and sends the request again, all below fetch(). The token stays in `token` here:
// never in a URL, a cookie or the browser's storage. Everything from outside is set as text, never as markup.
'use strict';

const mount = document.body.dataset.mount;
const host = location.hostname.replace(/^\[|\]$/g, '');
const byName = !/^[0-9.]+$/.test(host) && !host.includes(':');
const SECTIONS = ['working', 'welcome', 'gone', 'help'];
const PATIENCE = 60_000;

let token = null;
let clock = null;

const element = (id) => document.getElementById(id);
const api = (path) => '/v1/' + path.split('/').map(encodeURIComponent).join('/');

function start() {
  const fill = (name, text) => document.querySelectorAll('.' + name).forEach((at) => { at.textContent = text; });
  fill('mount', 'auth/' + mount);
  fill('host', host);
  fill('spn', 'HTTP/' + host);
  document.querySelectorAll('.again').forEach((button) => button.addEventListener('click', signIn));
  element('copy').addEventListener('click', copy);
  element('revoke').addEventListener('click', signOut);
  // What the browser may keep of a page that was left must not hold the token.
  addEventListener('pagehide', forget);
  addEventListener('pageshow', (event) => { if (event.persisted) signIn(); });
  signIn();
}

async function signIn() {
  forget();
  show('working', 'Signing you in');
  let answer = await askForToken();
  if (answer.cause === 'nothing' && LEARNS_AT_THE_FIRST_CHALLENGE) {
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
    answer = await askForToken();
  }
  if (answer.cause === null) {
    welcome(answer.body);
  } else {
    explain(answer.cause, answer.said);
  }
}

// Chromium outside Windows loads what it needs for Kerberos only when it has met a server that asks for it, and leaves
// that first request without a ticket.
const LEARNS_AT_THE_FIRST_CHALLENGE = /Chrom(e|ium)\//.test(navigator.userAgent) && !/Windows/.test(navigator.userAgent);

async function askForToken() {
  let response;
  let body = null;
  try {
    response = await fetch(api(`auth/${mount}/login`), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ show_groups: true }),
      credentials: 'same-origin',
      cache: 'no-store',
      redirect: 'error',
      signal: AbortSignal.timeout(PATIENCE),
    });
    body = await response.json().catch(() => null);
  } catch {
    return { cause: 'unreachable', said: '' };
  }
  if (response.ok && typeof body?.auth?.client_token === 'string') return { cause: null, body };
  const said = Array.isArray(body?.errors) ? body.errors.filter((text) => typeof text === 'string').join(' ') : '';
  return { cause: causeOf(response, said), said };
}

// The server tells a client little on purpose; this is what can be told apart.
function causeOf(response, said) {
  const asked = /negotiate/i.test(response.headers.get('WWW-Authenticate') ?? '');
  switch (response.status) {
    // Without a sentence of this server's it comes from a proxy, which found the headers too large.
    case 400: if (said === '') return 'large'; return /malformed|Negotiate/.test(said) ? 'refused' : 'user';
    case 401:
      if (/sent something else/.test(said)) return 'ntlm';
      return asked && !/\(request /.test(said) ? 'nothing' : 'refused';
    case 403:
      if (/permission denied/.test(said)) return 'mount';
      if (/address/.test(said)) return 'address';
      return /origin/.test(said) ? 'other' : 'user';
    case 404: case 405: return 'mount';
    case 502: return 'directory';
    case 413: case 431: case 494: return 'large';
    case 429: case 503: return /sealed/.test(said) ? 'sealed' : 'busy';
    default: return 'other';
  }
}

function welcome(body) {
  const { auth, data } = body;
  token = auth.client_token;
  const metadata = auth.metadata ?? {};
  element('who').textContent = auth.display_name || metadata.user || 'somebody without a name';
  element('domain').textContent = metadata.domain ?? 'not stated';
  list('policies', auth.policies ?? auth.token_policies ?? []);
  element('policy-count').textContent = counted(auth.policies ?? auth.token_policies);

  // Groups that a ticket states and nobody has a name for are still its user's groups.
  const named = Array.isArray(data?.groups) ? data.groups : null;
  const groups = named?.length ? named : data?.unnamed_group_sids ?? named;
  element('groups-row').hidden = groups === null;
  list('groups', groups ?? []);
  element('group-count').textContent = counted(groups);
  const source = sourceOf(data?.source);
  element('group-source').hidden = source === '';
  element('group-source').textContent = source;
  element('directory-row').hidden = typeof data?.user_dn !== 'string' || data.user_dn === '';
  element('user-dn').textContent = data?.user_dn ?? '';

  const warnings = Array.isArray(body.warnings) ? body.warnings.filter((text) => !/show_groups/.test(text)) : [];
  element('warnings').hidden = warnings.length === 0;
  list('warnings', warnings);

  const seconds = Number(auth.lease_duration);
  if (seconds > 0) {
    const ends = new Date(Date.now() + seconds * 1000);
    element('ends').textContent = ends.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });
    tick(ends);
    clock = setInterval(tick, 15_000, ends);
  } else {
    element('ends').textContent = 'never, unless it is revoked';
    element('ends-in').textContent = '';
  }
  show('welcome', `You are signed in as ${element('who').textContent}`);
  element('who').focus();
}

function tick(ends) {
  const left = Math.round((ends - Date.now()) / 1000);
  if (left <= 0) {
    gone('Your token has ended', 'It lived as long as this server lets it. Signing in again gets a new one.');
    return;
  }
  const spans = [[86400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']];
  const [size, unit] = spans.find(([size]) => left >= size);
  const count = Math.floor(left / size);
  element('ends-in').textContent = `(in ${count} ${unit}${count === 1 ? '' : 's'})`;
}

async function copy() {
  if (token === null) return;
  try {
    await navigator.clipboard.writeText(token);
    const button = element('copy');
    button.textContent = 'Copied';
    element('status').textContent = 'The token is in the clipboard';
    setTimeout(() => { button.textContent = 'Copy the token'; }, 2500);
  } catch {
    // Browsers give the clipboard to encrypted pages alone, and not always to those.
    element('token').value = token;
    element('token-row').hidden = false;
    element('token').select();
  }
}

async function signOut() {
  const button = element('revoke');
  button.disabled = true;
  try {
    const response = await fetch(api('auth/token/revoke-self'), {
      method: 'POST',
      headers: { 'X-Vault-Token': token },
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (!response.ok) throw new Error('refused');
    gone('You are signed out', 'The token is worthless now.');
  } catch {
    gone('The server did not confirm', 'This page has forgotten the token, but it may still be good until it ends.');
  } finally {
    button.disabled = false;
  }
}

function gone(title, text) {
  forget();
  element('gone-title').textContent = title;
  element('gone-text').textContent = text;
  show('gone', title);
  element('gone-title').focus();
}

function forget() {
  token = null;
  clearInterval(clock);
  element('token').value = '';
  element('token-row').hidden = true;
}

const HAVE_A_TICKET = 'See that you have a ticket: `klist` in a terminal (or command prompt) shows one for `krbtgt` that has not '
  + 'expired. If not: `kinit`, or on Windows lock the screen and unlock it with your password while the company network is reachable.';
const SAY_IT_TO_THE_BROWSER = 'Tell the browser that this server may be given a ticket (below). Browsers give one only to '
  + 'servers that they were told of. Restart the browser after that.';
const USE_THE_NAME = 'Use the name of the server in the address, as your administrators gave it to you: tickets are for names.';

const CAUSES = {
  nothing: {
    title: 'Your browser sent no Kerberos ticket',
    text: 'This page signs you in with the ticket that your computer got when you logged on, without a password. The browser was asked for it and sent none.',
    steps: [HAVE_A_TICKET, SAY_IT_TO_THE_BROWSER,
      `The name matters: the browser asks for a ticket to \`HTTP/${host}\`. If the realm does not know that name, there is none to send; those who run the server can find out below.`],
    browsers: true,
    operators: true,
  },
  ntlm: {
    title: 'Your browser sent NTLM in place of a ticket',
    text: 'Windows falls back to NTLM, an older way that this server does not take, when it cannot get a Kerberos ticket for this address.',
    steps: [USE_THE_NAME,
      `The name \`HTTP/${host}\` must be known to the domain, as an SPN of exactly one account. That is for those who run the server; see below.`,
      'Run `klist` in a command prompt: it must list a ticket for `krbtgt`. A computer outside the domain, or one that has not reached a domain controller, has none.'],
    browsers: false,
    operators: true,
  },
  refused: {
    title: 'Your ticket was not accepted',
    text: 'Your browser sent a Kerberos ticket, and this server could not use it. That is seldom your fault.',
    steps: ['Try again once. An old ticket may be the reason: `klist purge` (Windows) or `kdestroy` and `kinit` (elsewhere) get new ones.',
      'If that does not help, those who run the server find the exact cause in its log.'],
    browsers: false,
    operators: true,
  },
  user: {
    title: 'You may not sign in here',
    text: 'Your ticket is good, but this server does not let you in: the directory does not know you, your account is disabled, or your realm is not one of those that may.',
    steps: ['Ask those who run the server; the number below leads them to the exact cause.'],
    operators: true,
  },
  address: {
    title: 'You may not sign in from here',
    text: 'This server takes logins from certain networks alone, and your computer is in none of them.',
    steps: ['If your organisation has a VPN, connect to it and try again.',
      'Otherwise ask those who run the server; the number below leads them to the exact cause.'],
    operators: true,
  },
  mount: {
    title: 'There is no Kerberos login here',
    text: `Nothing is set up to sign people in at auth/${mount}. If your administrators gave you an address, see that it is complete: the part after ?mount= names the login.`,
    steps: [],
  },
  directory: {
    title: 'The directory does not answer',
    text: 'Your ticket is good, but the server could not ask the directory which groups you are in.',
    steps: ['Try again in a minute. If it stays so, tell those who run the server.'],
  },
  large: {
    title: 'Your ticket is too large',
    text: 'People in very many groups have large tickets, and something between your browser and this server refuses headers of that size.',
    steps: ['Those who run the server raise max_header_size of the listener, or the limit of the proxy in front of it.'],
  },
  busy: { title: 'The server is busy', text: 'It has more to do than it can do now.', steps: ['Try again in a moment.'] },
  sealed: {
    title: 'This server is sealed',
    text: 'Until those who hold its keys have unsealed it, it knows nobody and gives out nothing.',
    steps: [],
  },
  unreachable: {
    title: 'The server did not answer',
    text: 'The connection broke off, or nothing came back in time.',
    steps: ['See whether the network is there, and try again.'],
  },
  other: { title: 'That did not work', text: 'The server gave an answer that this page does not know.', steps: [], operators: true },
};

function explain(cause, said) {
  const { title, text, steps, browsers = false, operators = false } = CAUSES[cause];
  element('help').dataset.cause = cause;
  element('help-title').textContent = title;
  element('help-text').textContent = text;
  const first = !byName && (browsers || operators)
    ? [`The address in use is ${host}, and Kerberos knows servers by name. ${USE_THE_NAME}`]
    : [];
  element('steps').replaceChildren(...[...first, ...steps].map(step));
  element('browsers').hidden = !browsers;
  element('operators').hidden = !operators || !byName;
  document.querySelectorAll('#browsers details').forEach((at) => { at.open = at.dataset.browser === browser(); });

  const id = /\(request ([0-9a-f-]{36})\)/i.exec(said ?? '')?.[1];
  element('request').hidden = !id;
  element('request-id').textContent = id ?? '';
  const sentence = (said ?? '').replace(/\s*\(request [^)]*\)/i, '');
  element('said').hidden = sentence === '';
  element('said-text').textContent = sentence;
  show('help', title);
  element('help-title').focus();
}

function browser() {
  const agent = navigator.userAgent;
  if (/Firefox\//.test(agent)) return 'firefox';
  if (/Chrom(e|ium)\//.test(agent)) return 'chrome';
  return /Safari\//.test(agent) ? 'safari' : '';
}

function sourceOf(source) {
  switch (source) {
    case 'pac': return 'as your ticket states them';
    case 'ldap': return 'as the directory states them';
    case 'ldap+pac': return 'as your ticket and the directory state them';
    default: return '';
  }
}

function counted(items) {
  return Array.isArray(items) && items.length > 1 ? `(${items.length})` : '';
}

// A step of ours: what stands between backticks is something to type.
function step(text) {
  const item = document.createElement('li');
  text.split('`').forEach((part, index) => {
    const piece = document.createElement(index % 2 ? 'code' : 'span');
    piece.textContent = part;
    item.append(piece);
  });
  return item;
}

function list(id, texts) {
  const items = texts.map((text) => {
    const item = document.createElement('li');
    item.textContent = String(text);
    return item;
  });
  if (items.length === 0 && id !== 'warnings') {
    const item = document.createElement('li');
    item.textContent = 'none';
    items.push(item);
  }
  element(id).replaceChildren(...items);
}

function show(id, announcement) {
  for (const section of SECTIONS) element(section).hidden = section !== id;
  document.body.dataset.state = id;
  element('status').textContent = announcement;
}

start();
