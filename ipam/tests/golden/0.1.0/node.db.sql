PRAGMA user_version = 1002;
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    boot TEXT NOT NULL,
    lost INTEGER NOT NULL,
    rebuilt INTEGER,
    cools_until INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE node (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL,
    mtu INTEGER NOT NULL,
    ipv4 INTEGER NOT NULL,
    ipv6 INTEGER NOT NULL,
    exhausted TEXT NOT NULL
, drain TEXT, pools TEXT) STRICT;
CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    first BLOB NOT NULL UNIQUE,
    length INTEGER NOT NULL,
    cidr TEXT NOT NULL,
    pool TEXT,
    state TEXT NOT NULL CHECK (state IN ('open', 'closing')),
    origin TEXT NOT NULL CHECK (origin IN ('cluster', 'configuration')),
    cursor BLOB NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0,
    cools_until INTEGER NOT NULL
) STRICT;
CREATE TABLE attachment (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    network TEXT,
    container TEXT,
    ifname TEXT,
    netns ANY,
    pod_namespace TEXT,
    pod_name TEXT,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'attached', 'deleting')),
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL
, extras TEXT) STRICT;
CREATE TABLE address (
    ip BLOB PRIMARY KEY,
    text TEXT NOT NULL,
    block INTEGER REFERENCES block,
    attachment INTEGER REFERENCES attachment,
    cooling INTEGER,
    owner TEXT,
    tunnel INTEGER,
    CHECK ((attachment IS NOT NULL) + (cooling IS NOT NULL) + (tunnel IS NOT NULL) = 1)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    verb TEXT NOT NULL,
    network TEXT,
    container TEXT,
    ifname TEXT,
    pod_namespace TEXT,
    pod_name TEXT,
    step TEXT NOT NULL,
    cause TEXT NOT NULL,
    code INTEGER NOT NULL,
    took INTEGER NOT NULL
) STRICT;
CREATE TABLE want (
    hash TEXT PRIMARY KEY,
    pools TEXT NOT NULL,
    address BLOB,
    at INTEGER NOT NULL,
    refusal TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO meta (id, boot, lost, rebuilt, cools_until) VALUES (1, 'golden', 0, NULL, 0);
INSERT INTO node (id, name, mtu, ipv4, ipv6, exhausted, drain, pools) VALUES (1, 'n1', 1450, 1, 1, '["old"]', NULL, '[{"family":4,"given":"default","name":"default","reserved":["10.42.24.60/30"]},{"family":6,"given":"default","name":"v6","reserved":[]},{"family":4,"given":"nobody","name":"old","reserved":[]},{"family":4,"given":"named","name":"named","reserved":[]}]');
INSERT INTO block (id, first, length, cidr, pool, state, origin, cursor, taken, cools_until) VALUES (1, X'040A2A1800', 26, '10.42.24.0/26', 'default', 'open', 'cluster', X'040A2A1805', 6, 0);
INSERT INTO block (id, first, length, cidr, pool, state, origin, cursor, taken, cools_until) VALUES (2, X'06FD420000000000000000000000000040', 122, 'fd42::40/122', 'v6', 'open', 'cluster', X'06FD420000000000000000000000000046', 6, 0);
INSERT INTO block (id, first, length, cidr, pool, state, origin, cursor, taken, cools_until) VALUES (3, X'040A2B0000', 26, '10.43.0.0/26', 'old', 'open', 'cluster', X'040A2B0000', 0, 0);
INSERT INTO attachment (id, hash, network, container, ifname, netns, pod_namespace, pod_name, state, created, changed, extras) VALUES (15117120822, 'af28409a88751', 'twill', 'plain', 'eth0', '/run/netns/test', NULL, NULL, 'attached', 1000001000000000, 1000001000000000, NULL);
INSERT INTO attachment (id, hash, network, container, ifname, netns, pod_namespace, pod_name, state, created, changed, extras) VALUES (15117120824, 'ad6bf3c370e5d', 'twill', 'going', 'eth0', '/run/netns/test', NULL, NULL, 'deleting', 1000004000000000, 1000005000000000, NULL);
INSERT INTO attachment (id, hash, network, container, ifname, netns, pod_namespace, pod_name, state, created, changed, extras) VALUES (15117120825, '947f3f608c810', 'twill', 'coming', 'eth0', '/run/netns/test', NULL, NULL, 'reserved', 1000006000000000, 1000006000000000, NULL);
INSERT INTO attachment (id, hash, network, container, ifname, netns, pod_namespace, pod_name, state, created, changed, extras) VALUES (15117120826, 'd29d11a9b9a99', 'twill', 'full', 'eth0', '/run/netns/full', 'shop', 'till-0', 'attached', 1000007000000000, 1000008000000000, '{"bandwidth":{"egress":{"burst":64000,"rate":1000000},"ingress":null},"ports":[{"containerPort":80,"hostIP":null,"hostPort":8080,"protocol":"tcp"}],"spoofCheck":false}');
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'040A2A1800', '10.42.24.0', 1, NULL, NULL, NULL, 1);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'040A2A1801', '10.42.24.1', 1, 15117120822, NULL, NULL, NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'040A2A1802', '10.42.24.2', 1, NULL, 1000003000000000, 'fb565886b9c6e', NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'040A2A1803', '10.42.24.3', 1, 15117120824, NULL, NULL, NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'040A2A1804', '10.42.24.4', 1, 15117120825, NULL, NULL, NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'040A2A1809', '10.42.24.9', 1, 15117120826, NULL, NULL, NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'06FD420000000000000000000000000040', 'fd42::40', 2, NULL, NULL, NULL, 1);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'06FD420000000000000000000000000041', 'fd42::41', 2, 15117120822, NULL, NULL, NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'06FD420000000000000000000000000042', 'fd42::42', 2, NULL, 1000003000000000, 'fb565886b9c6e', NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'06FD420000000000000000000000000043', 'fd42::43', 2, 15117120824, NULL, NULL, NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'06FD420000000000000000000000000044', 'fd42::44', 2, 15117120825, NULL, NULL, NULL);
INSERT INTO address (ip, text, block, attachment, cooling, owner, tunnel) VALUES (X'06FD420000000000000000000000000045', 'fd42::45', 2, 15117120826, NULL, NULL, NULL);
INSERT INTO attempt (id, at, verb, network, container, ifname, pod_namespace, pod_name, step, cause, code, took) VALUES (1, 1000009000000000, 'ADD', 'twill', 'refused', 'eth0', 'shop', 'till-0', 'reserving', 'no free address', 100, 3000000);
INSERT INTO want (hash, pools, address, at, refusal) VALUES ('9c17db0aa2c32', '["v6"]', NULL, 1000010000000000, NULL);
CREATE INDEX address_attachment ON address (attachment) WHERE attachment IS NOT NULL;
CREATE INDEX address_cooling ON address (cooling) WHERE cooling IS NOT NULL;
CREATE INDEX address_owner ON address (owner) WHERE owner IS NOT NULL;
CREATE VIEW assignment AS
    SELECT a.text AS address, b.cidr AS block, b.pool,
        CASE WHEN a.tunnel THEN 'tunnel' WHEN a.tunnel = 0 THEN 'withheld' WHEN a.cooling THEN 'cooling' ELSE t.state END AS state,
        'tw' || coalesce(t.hash, a.owner) AS interface, t.pod_namespace, t.pod_name, t.container
    FROM address a LEFT JOIN block b ON b.id = a.block LEFT JOIN attachment t ON t.id = a.attachment ORDER BY a.ip;
