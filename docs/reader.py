#!/usr/bin/env python3
"""An independent reader of paxfs volumes, written from FORMAT.md alone.

    reader.py [--extents | --sha256] IMAGE

Verifies every checksum, reads every structure, recomputes reference counts, free space and the reverse map from the
extents of all files, and compares (FORMAT.md, sections 13 and 14). `--extents` lists the extents of all files by path,
`--sha256` the digests of their contents in the form that `sha256sum -c` takes, in the root of the source.

Shares no code with paxfs, and takes nothing but Python's own library: that is what it is for. Exit status: 0 the volume
agrees with itself, 1 it does not, 2 it cannot be read at all.
"""

import collections
import hashlib
import mmap
import struct
import sys

BLOCK = 4096
NODE_BODY = BLOCK - 40
PROBLEMS_SHOWN = 20

# Numbers of `kind` in a header (section 1).
SUPERBLOCK, GROUP, FREE, REFCOUNT, RMAP, INODES, CLUSTERS, BAD, EXTENTS = range(1, 10)
DIRECTORY_INDEX, ATTRIBUTE_INDEX, DIRECTORY, ATTRIBUTES, VALUE, INODE, JOURNAL = range(10, 17)

# Owners in the reverse map that are no inodes (section 6).
HEAD, OWNED_JOURNAL, CHECKSUMS, CLUSTER = (2**64 - n for n in (1, 2, 3, 4))

FEATURE_RMAP, FEATURE_REFLINK, FEATURE_CSUM = 1, 2, 4
UNWRITTEN = 1
EMPTY, INLINE, ONE_BLOCK, TREE, VALUES = range(5)
TYPE_FIFO, TYPE_CHARACTER, TYPE_DIRECTORY, TYPE_BLOCK, TYPE_REGULAR, TYPE_SYMLINK, TYPE_SOCKET = 1, 2, 4, 6, 8, 10, 12
TYPES = (TYPE_FIFO, TYPE_CHARACTER, TYPE_DIRECTORY, TYPE_BLOCK, TYPE_REGULAR, TYPE_SYMLINK, TYPE_SOCKET)


class Broken(Exception):
    """A structure that is not what it must be; the message says which and why."""


# Structures: a name, and the fields as `struct` writes them. `_` marks zeros.


def structure(name, *fields):
    """A reader of one structure of FORMAT.md: fields are (name, struct code) in the order of its table."""
    code = struct.Struct("<" + "".join(code for _, code in fields))
    names = [field for field, _ in fields]
    kind = collections.namedtuple(name, [n for n in names if n != "_"])

    def read(data, at=0):
        values = code.unpack_from(data, at)
        for field, value in zip(names, values):
            if field == "_" and (value if isinstance(value, int) else any(value)):
                raise Broken(f"{name}: reserved bytes are not zero")
        return kind(*(value for field, value in zip(names, values) if field != "_"))

    read.size = code.size
    return read


header = structure("Header", ("magic", "4s"), ("crc", "I"), ("kind", "H"), ("level", "H"), ("count", "I"),
                   ("place", "Q"), ("owner", "Q"), ("generation", "Q"))
tree_root = structure("TreeRoot", ("block", "Q"), ("height", "I"), ("nodes", "I"), ("records", "Q"))
superblock = structure(
    "Superblock", ("state", "I"), ("written", "12s"), ("checked", "q"), ("version", "I"), ("block_size", "I"),
    ("uuid", "16s"), ("label", "64s"), ("blocks", "Q"), ("group_blocks", "Q"), ("groups", "I"),
    ("cluster_blocks", "I"), ("journal_start", "Q"), ("journal_blocks", "Q"), ("root", "Q"), ("compatible", "Q"),
    ("read_only_compatible", "Q"), ("incompatible", "Q"), ("device_count", "I"), ("device", "I"), ("made", "12s"),
    ("_", "12s"), ("devices", "512s"), ("_", "3328s"))
device_entry = structure("DeviceEntry", ("uuid", "16s"), ("blocks", "Q"), ("role", "I"), ("_", "4s"))
group_header = structure(
    "GroupHeader", ("group", "I"), ("_", "4s"), ("start", "Q"), ("blocks", "Q"), ("free_blocks", "Q"),
    ("cluster_free", "Q"), ("inodes_used", "Q"), ("orphans", "Q"), ("free", "24s"), ("refcount", "24s"),
    ("rmap", "24s"), ("inodes", "24s"), ("clusters", "24s"), ("bad", "24s"), ("_", "3856s"))
branch = structure("Branch", ("start", "Q"), ("owner", "Q"), ("offset", "Q"), ("high", "Q"), ("child", "Q"))
free_record = structure("Free", ("start", "I"), ("length", "I"))
refcount_record = structure("Refcount", ("start", "I"), ("length", "I"), ("count", "I"))
rmap_record = structure("Rmap", ("start", "I"), ("length", "I"), ("owner", "Q"), ("offset", "Q"), ("flags", "I"))
chunk_record = structure("Chunk", ("start", "I"), ("_", "4s"), ("used", "Q"), ("orphans", "Q"))
cluster_record = structure("Cluster", ("start", "I"), ("used", "I"), ("bitmap", "64s"))
extent_record = structure("Extent", ("offset", "Q"), ("start", "Q"), ("length", "I"), ("flags", "I"))
index_record = structure("Index", ("cookie", "Q"), ("block", "Q"))
inode_fields = structure(
    "Inode", ("generation", "I"), ("mode", "I"), ("uid", "I"), ("gid", "I"), ("links", "I"), ("flags", "I"),
    ("size", "Q"), ("blocks", "Q"), ("changes", "Q"), ("accessed", "12s"), ("modified", "12s"), ("changed", "12s"),
    ("born", "12s"), ("major", "I"), ("minor", "I"), ("data", "40s"), ("attributes", "40s"), ("_", "8s"),
    ("payload", "280s"))
fork_fields = structure("Fork", ("format", "H"), ("inline_bytes", "H"), ("_", "4s"), ("count", "Q"), ("tree", "24s"))
directory_entry = structure("DirectoryEntry", ("cookie", "Q"), ("inode", "Q"), ("generation", "I"),
                            ("name_length", "B"), ("kind", "B"), ("_", "2s"))
attribute_entry = structure("AttributeEntry", ("cookie", "Q"), ("value_length", "I"), ("kind", "B"),
                            ("name_length", "B"), ("_", "2s"))
sum_entry = structure("Sum", ("crc", "I"), ("state", "I"))
timestamp = structure("Timestamp", ("seconds", "q"), ("nanoseconds", "I"))
slot_head = structure("JournalSlot", ("bytes", "Q"), ("body_crc", "I"), ("_", "4s"), ("body", "Q"))
slot_tail = structure("JournalSlot", ("commit", "Q"), ("_", "56s"))
journal_record = structure("JournalRecord", ("block", "Q"), ("lines", "Q"))

# By kind of tree: the record, its key, and its end (section 5).
TREES = {
    FREE: (free_record, lambda r: (r.start, 0, 0), lambda r: r.start + r.length),
    REFCOUNT: (refcount_record, lambda r: (r.start, 0, 0), lambda r: r.start + r.length),
    RMAP: (rmap_record, lambda r: (r.start, r.owner, r.offset), lambda r: r.start + r.length),
    INODES: (chunk_record, lambda r: (r.start, 0, 0), lambda r: r.start + 8),
    CLUSTERS: (cluster_record, lambda r: (r.start, 0, 0), lambda r: r.start + 1),
    BAD: (free_record, lambda r: (r.start, 0, 0), lambda r: r.start + r.length),
    EXTENTS: (extent_record, lambda r: (r.offset, 0, 0), lambda r: r.offset + r.length),
    DIRECTORY_INDEX: (index_record, lambda r: (r.cookie, 0, 0), lambda r: r.cookie + 1),
    ATTRIBUTE_INDEX: (index_record, lambda r: (r.cookie, 0, 0), lambda r: r.cookie + 1),
}


# Checksums and hashes.


def crc_tables():
    """Tables that take four bytes at a time: the first for the lower half of the word, the second for the upper."""
    byte = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        byte.append(value)
    ahead = [byte]
    for _ in range(3):
        ahead.append([value >> 8 ^ byte[value & 255] for value in ahead[-1]])
    low = [ahead[3][half & 255] ^ ahead[2][half >> 8] for half in range(65536)]
    high = [ahead[1][half & 255] ^ ahead[0][half >> 8] for half in range(65536)]
    return byte, low, high


CRC_BYTE, CRC_LOW, CRC_HIGH = crc_tables()


def crc_update(state, data):
    """The register of CRC-32C after more bytes; the final xor is the caller's."""
    words = len(data) // 4
    low, high = CRC_LOW, CRC_HIGH
    for word in struct.unpack_from(f"<{words}I", data):
        state ^= word
        state = low[state & 0xFFFF] ^ high[state >> 16]
    for byte in data[4 * words:]:
        state = state >> 8 ^ CRC_BYTE[(state ^ byte) & 255]
    return state


assert crc_update(0xFFFFFFFF, b"123456789") ^ 0xFFFFFFFF == 0xE3069283


def siphash(key, data):
    """SipHash-2-4 (Aumasson and Bernstein, 2012)."""
    mask = 2**64 - 1
    k0, k1 = struct.unpack("<QQ", key)
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def rounds(count):
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0 = v0 + v1 & mask
            v1 = (v1 << 13 | v1 >> 51) & mask ^ v0
            v0 = (v0 << 32 | v0 >> 32) & mask
            v2 = v2 + v3 & mask
            v3 = (v3 << 16 | v3 >> 48) & mask ^ v2
            v0 = v0 + v3 & mask
            v3 = (v3 << 21 | v3 >> 43) & mask ^ v0
            v2 = v2 + v1 & mask
            v1 = (v1 << 17 | v1 >> 47) & mask ^ v2
            v2 = (v2 << 32 | v2 >> 32) & mask

    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) & 255])
    for (word,) in struct.iter_unpack("<Q", padded):
        v3 ^= word
        rounds(2)
        v0 ^= word
    v2 ^= 255
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


# The volume.


class Volume:
    """A device, its superblock, and the journal's live transactions applied in memory."""

    def __init__(self, device):
        self.device = device
        self.overlay = {}
        self.used = collections.Counter()
        self.sb, self.uuid, self.generation = self.find_superblock()
        if self.sb.incompatible:
            raise Broken(f"unknown incompatible features {self.sb.incompatible:#x}")
        self.crc_seed = crc_update(0xFFFFFFFF, self.uuid)
        self.transactions = self.replay()

    # Places (section 2).

    def start(self, group):
        return group * self.sb.group_blocks

    def blocks(self, group):
        return min(self.sb.group_blocks, self.sb.blocks - self.start(group))

    def has(self, feature):
        return bool(self.sb.read_only_compatible & feature)

    def table_blocks(self, group):
        return -(-self.blocks(group) // 512) if self.has(FEATURE_CSUM) else 0

    def fixed(self, group):
        return 3 + self.table_blocks(group) + (self.sb.journal_blocks if group == 0 else 0)

    def copy_of_header(self, group):
        return self.start((group + 1) % self.sb.groups) + 2

    # Bytes.

    def block(self, number):
        if number in self.overlay:
            return bytes(self.overlay[number])
        data = self.device[number * BLOCK:(number + 1) * BLOCK]
        if len(data) < BLOCK:
            raise Broken(f"block {number} lies past the end of the device")
        return data

    def crc(self, data):
        return crc_update(self.crc_seed, data) ^ 0xFFFFFFFF

    def verified(self, data, kind, place, owner):
        head = header(data)
        what = f"kind {kind} at {place}"
        if head.magic != b"PAXF":
            raise Broken(f"{what}: magic is {head.magic!r}")
        if self.crc(data[:4] + bytes(4) + data[8:]) != head.crc:
            raise Broken(f"{what}: the checksum does not fit")
        if (head.kind, head.place, head.owner) != (kind, place, owner):
            raise Broken(f"{what}, owner {owner}: says it is kind {head.kind} at {head.place}, owner {head.owner}")
        if kind in (SUPERBLOCK, GROUP, INODE) and (head.level or head.count) or kind == JOURNAL and head.level:
            raise Broken(f"{what}: level {head.level}, count {head.count}")
        return head

    def structure(self, number, kind, owner):
        """A verified block of metadata within a cluster or of fixed place, and its header."""
        data = self.block(number)
        return self.verified(data, kind, number, owner), data

    # The superblock (section 3).

    def find_superblock(self):
        try:
            return self.superblock_at(0)
        except Broken as primary:
            found = []
            for place in range(0, len(self.device) // BLOCK, 512):
                try:
                    candidate = self.superblock_at(place)
                except Broken:
                    continue
                if place % candidate[0].group_blocks == 0:
                    found.append(candidate)
            found = [candidate for candidate in found if candidate[1] == found[0][1]]
            if not found:
                raise Broken(f"no superblock: {primary}") from primary
            return max(found, key=lambda candidate: candidate[2])

    def superblock_at(self, place):
        data = self.device[place * BLOCK:(place + 1) * BLOCK]
        if len(data) < BLOCK or data[:4] != b"PAXF":
            raise Broken(f"no superblock in block {place}")
        sb = superblock(data, header.size)
        self.sb = sb
        self.crc_seed = crc_update(0xFFFFFFFF, sb.uuid)
        head = self.verified(data, SUPERBLOCK, place, 0)
        last = sb.blocks % sb.group_blocks if sb.group_blocks else 1
        rules = {
            "version": sb.version == 1,
            "block_size": sb.block_size == BLOCK,
            "blocks": 1024 <= sb.blocks <= 2**51,
            "group_blocks": sb.group_blocks % 512 == 0 and 512 <= sb.group_blocks <= 2**31 and (not last or last >= 256),
            "groups": sb.group_blocks and sb.groups == -(-sb.blocks // sb.group_blocks) and sb.groups <= 2**24,
            "cluster_blocks": sb.cluster_blocks in (16, 32, 64, 128, 256, 512),
            "journal_start": sb.group_blocks and sb.journal_start == 3 + self.table_blocks(0),
            "journal_blocks": sb.group_blocks and sb.journal_blocks % 2 == 0 and sb.journal_blocks >= 2
            and self.fixed(0) <= self.blocks(0),
        }
        for field, holds in rules.items():
            if not holds:
                raise Broken(f"superblock in block {place}: {field} is {getattr(sb, field)}")
        return sb, sb.uuid, head.generation

    # The journal (section 11).

    def replay(self):
        half = self.sb.journal_blocks // 2
        committed, broken = {}, []
        for slot in range(2):
            first = self.sb.journal_start + slot * half
            data = self.device[first * BLOCK:(first + half) * BLOCK]
            try:
                number, writes, run = self.slot(data, first)
                committed[number] = writes, run
            except Broken as fault:
                if fault.args[1:]:
                    broken.append((fault.args[1], fault.args[0]))
        live = sorted(number for number in committed if number > self.generation)
        bodies = {number: run for number, (_, run) in committed.items()}
        for number, fault in broken:
            if number > self.generation and number + 1 not in live:
                raise Broken(f"journal: transaction {number} is damaged: {fault}")
        if len(live) == 2 and live[0] + 1 != live[1]:
            raise Broken(f"journal: transactions {live[0]} and {live[1]} do not follow each other")
        for number in live:
            others = [bodies[other] for other in live if other != number]
            if any(block in run for run in others for block, _, _ in committed[number][0]):
                raise Broken(f"journal: transaction {number} writes to the body of the other")
        for number in live:
            for block, lines, data in committed[number][0]:
                target = self.overlay.setdefault(block, bytearray(self.block(block)))
                for line in range(64):
                    if lines >> line & 1:
                        target[64 * line:64 * line + 64] = data[:64]
                        data = data[64:]
        return live

    def slot(self, data, place):
        """Number, writes and blocks of the body of a committed slot. A second argument of Broken is a broken slot's number."""
        if not any(data[:128]):
            raise Broken("empty")
        head = self.verified(data[:64], JOURNAL, place, 0)
        if struct.unpack_from("<Q", data, 64)[0] != head.generation:
            raise Broken("torn")
        try:
            fields = slot_head(data, header.size)
            slot_tail(data, 64)
            run = range(0)
            if fields.body and head.generation <= self.generation:
                return head.generation, [], run
            if fields.body:
                group, inside = divmod(fields.body, self.sb.group_blocks)
                run = range(fields.body, fields.body + -(-fields.bytes // BLOCK))
                if not run or run[-1] >= self.sb.blocks or inside < self.fixed(group):
                    raise Broken("the body lies where none may")
                if run[-1] // self.sb.group_blocks != group:
                    raise Broken("the body leaves its group")
                body = self.device[fields.body * BLOCK:fields.body * BLOCK + fields.bytes]
            else:
                body = data[128:128 + fields.bytes]
            if len(body) != fields.bytes or self.crc(body) != fields.body_crc:
                raise Broken("the body is too long, or its checksum does not fit")
            writes, at = [], 0
            for _ in range(head.count):
                record = journal_record(body, at)
                end = at + 16 + 64 * bin(record.lines).count("1")
                own = 0 <= record.block - self.sb.journal_start < self.sb.journal_blocks
                if record.lines == 0 or end > len(body) or record.block >= self.sb.blocks or own or record.block in run:
                    raise Broken(f"record at byte {at} of the body")
                writes.append((record.block, record.lines, body[at + 16:end]))
                at = end
            if at != len(body):
                raise Broken("bytes behind the last record")
        except (Broken, struct.error) as fault:
            raise Broken(str(fault), head.generation) from fault
        return head.generation, writes, run

    # Trees (section 5).

    def use(self, block):
        """Notes a block within a cluster as reached."""
        self.used[block] += 1

    def walk(self, root, kind, owner):
        """The records of a tree, in order, every rule of section 5 checked on the way."""
        where = f"tree of kind {kind}, owner {owner}"
        if root.block == 0:
            if any(root):
                raise Broken(f"{where}: empty, but the root is {root}")
            return []
        if not 1 <= root.height <= 12:
            raise Broken(f"{where}: height {root.height}")
        record, key, end = TREES[kind]
        records, nodes, highs = [], 0, {}

        def visit(number, level, first):
            """Appends the records below a node; its highest end."""
            nonlocal nodes
            head, data = self.structure(number, kind, owner)
            self.use(number)
            nodes += 1
            what = f"{where}, node {number}"
            read = record if level == 0 else branch
            size = read.size
            if head.level != level or not 1 <= head.count <= NODE_BODY // size:
                raise Broken(f"{what}: level {head.level}, {head.count} records")
            if any(data[40 + size * head.count:]):
                raise Broken(f"{what}: bytes behind the last record")
            items = [read(data, 40 + size * i) for i in range(head.count)]
            low = key(items[0]) if level == 0 else items[0][:3]
            if first is not None and low != first:
                raise Broken(f"{what}: begins with {low}, its parent says {first}")
            if level == 0:
                records.extend(items)
                return max(map(end, items))
            for item in items:
                if visit(item.child, level - 1, item[:3]) != item.high:
                    raise Broken(f"{what}: high of {item[:3]} is not {item.high}")
            return max(item.high for item in items)

        visit(root.block, root.height - 1, None)
        if (nodes, len(records)) != (root.nodes, root.records):
            raise Broken(f"{where}: {nodes} nodes and {len(records)} records, the root says {root}")
        keys = [key(item) for item in records]
        if any(a >= b for a, b in zip(keys, keys[1:])):
            raise Broken(f"{where}: keys do not ascend")
        return records

    # Entries and values (section 9).

    def body(self, number, kind, owner, level=0):
        head, data = self.structure(number, kind, owner)
        self.use(number)
        if head.level != level or head.count > NODE_BODY or any(data[40 + head.count:]):
            raise Broken(f"block {number}: level {head.level}, {head.count} bytes in use")
        return data[40:40 + head.count]

    def value(self, blocks, length, owner):
        if len(blocks) != -(-length // NODE_BODY):
            raise Broken(f"inode {owner}: a value of {length} bytes in {len(blocks)} blocks")
        data = b"".join(self.body(block, VALUE, owner, i) for i, block in enumerate(blocks))
        if len(data) != length:
            raise Broken(f"inode {owner}: a value has {len(data)} bytes, not {length}")
        return data

    def entries(self, fork, inline, index_kind, body_kind, owner):
        """Live entries of a fork, as (head, name, stored value), and the bytes that all of them fill."""
        root = tree_root(fork.tree)
        if fork.format in (EMPTY, INLINE):
            parts = [(inline, 0, 2**64)]
        elif fork.format == ONE_BLOCK:
            if root != (root.block, 0, 0, 1):
                raise Broken(f"inode {owner}: root of one block is {root}")
            parts = [(self.body(root.block, body_kind, owner), 0, 2**64)]
        elif fork.format == TREE:
            index = self.walk(root, index_kind, owner)
            if not index or index[0].cookie != 0:
                raise Broken(f"inode {owner}: the index does not begin with 0")
            ends = [record.cookie for record in index[1:]] + [2**64]
            parts = [(self.body(r.block, body_kind, owner), r.cookie, end) for r, end in zip(index, ends)]
        else:
            raise Broken(f"inode {owner}: entries in format {fork.format}")
        found, cookies, filled = [], set(), 0
        for data, low, high in parts:
            at = 0
            while at < len(data):
                entry, name, value, length = self.entry(data, at, body_kind, owner)
                at += length
                if entry is None:
                    continue
                if not low <= entry.cookie < high or entry.cookie in cookies:
                    raise Broken(f"inode {owner}: cookie {entry.cookie:#x} of {name!r} is out of place")
                cookies.add(entry.cookie)
                found.append((entry, name, value))
            filled += at
        if len(found) != fork.count:
            raise Broken(f"inode {owner}: {len(found)} entries, not {fork.count}")
        return found, filled

    def entry(self, data, at, body_kind, owner):
        """The entry at a place: its head (None for a dead one), name, stored value, and length with padding."""
        read = directory_entry if body_kind == DIRECTORY else attribute_entry
        if at + read.size > len(data):
            raise Broken(f"inode {owner}: an entry is cut short")
        head = read(data, at)
        stored = 0
        if body_kind == ATTRIBUTES:
            stored = 8 * -(-head.value_length // NODE_BODY) if head.kind == 2 else head.value_length
            if head.kind > 3 or head.kind == 3 and stored != 8:
                raise Broken(f"inode {owner}: attribute of kind {head.kind} with {stored} bytes")
        names_at = at + read.size
        value_at = names_at + head.name_length
        end = value_at + stored
        length = -(-(end - at) // 8) * 8
        if at + length > len(data) or any(data[end:at + length]):
            raise Broken(f"inode {owner}: an entry is cut short or its padding is not zero")
        dead = head.inode == 0 if body_kind == DIRECTORY else head.kind == 0
        if dead:
            return None, b"", b"", length
        name, value = data[names_at:value_at], data[value_at:end]
        hashed = name
        if body_kind == ATTRIBUTES:
            hashed = b"\x03" + value + name if head.kind == 3 else b"\x01" + name
        lowest = siphash(self.uuid, hashed) >> 1 & ~0xFF
        if not name or not lowest <= head.cookie <= lowest + 255:
            raise Broken(f"inode {owner}: cookie {head.cookie:#x} does not belong to {name!r}")
        return head, name, value, length


# One file.

File = collections.namedtuple("File", "inode type extents names parents target attributes orphan")


def read_file(volume, number, fields, orphan):
    """All that an inode owns."""
    kind = fields.mode >> 12
    if kind not in TYPES:
        raise Broken(f"inode {number}: mode {fields.mode:o}")
    data, attributes = fork_fields(fields.data), fork_fields(fields.attributes)
    split, end = data.inline_bytes, data.inline_bytes + attributes.inline_bytes
    if end > len(fields.payload) or any(fields.payload[end:]):
        raise Broken(f"inode {number}: the payload is not as its forks say")
    inline, inline_attributes = fields.payload[:split], fields.payload[split:end]
    for fork, length in ((data, split), (attributes, end - split)):
        if length and fork.format not in (INLINE, VALUES):
            raise Broken(f"inode {number}: {length} inline bytes in format {fork.format}")
        if fork.format not in (ONE_BLOCK, TREE) and any(tree_root(fork.tree)):
            raise Broken(f"inode {number}: a root in format {fork.format}")
    for field in (fields.accessed, fields.modified, fields.changed, fields.born):
        if timestamp(field).nanoseconds >= 10**9:
            raise Broken(f"inode {number}: a time with 10^9 nanoseconds or more")
    extents, names, target = [], [], None
    if kind == TYPE_REGULAR:
        extents = read_extents(volume, number, fields, data, inline)
    elif kind == TYPE_DIRECTORY:
        names, filled = volume.entries(data, inline, DIRECTORY_INDEX, DIRECTORY, number)
        if filled != fields.size:
            raise Broken(f"inode {number}: entries fill {filled} bytes, size is {fields.size}")
    elif kind == TYPE_SYMLINK:
        if data.format == VALUES:
            inline = volume.value([block for (block,) in struct.iter_unpack("<Q", inline)], fields.size, number)
        elif data.format != INLINE:
            raise Broken(f"inode {number}: a symlink in format {data.format}")
        target = inline
        if len(target) != fields.size:
            raise Broken(f"inode {number}: target of {len(target)} bytes, size is {fields.size}")
    elif data.format != EMPTY or fields.size:
        raise Broken(f"inode {number}: contents in what is neither file, directory nor symlink")
    if fields.blocks != sum(extent.length for extent in extents):
        raise Broken(f"inode {number}: blocks is {fields.blocks}")
    parents, values = [], {}
    for entry, name, value in volume.entries(attributes, inline_attributes, ATTRIBUTE_INDEX, ATTRIBUTES, number)[0]:
        if entry.kind == 3:
            parents.append((struct.unpack("<Q", value)[0], name))
        elif entry.kind == 2:
            blocks = [block for (block,) in struct.iter_unpack("<Q", value)]
            values[name] = volume.value(blocks, entry.value_length, number)
        else:
            values[name] = value
    return File(fields, kind, extents, names, parents, target, values, orphan)


def read_extents(volume, number, fields, fork, inline):
    if fork.format == TREE:
        extents = volume.walk(tree_root(fork.tree), EXTENTS, number)
    elif fork.format in (EMPTY, INLINE):
        extents = [extent_record(inline, at) for at in range(0, len(inline), extent_record.size)]
    else:
        raise Broken(f"inode {number}: extents in format {fork.format}")
    if len(extents) != fork.count:
        raise Broken(f"inode {number}: {len(extents)} extents, not {fork.count}")
    group_of = lambda block: block // volume.sb.group_blocks
    for extent in extents:
        last = extent.start + extent.length - 1
        if not extent.length or last >= volume.sb.blocks or group_of(extent.start) != group_of(last):
            raise Broken(f"inode {number}: {extent} leaves its group")
        if extent.flags & ~UNWRITTEN:
            raise Broken(f"inode {number}: {extent} has unknown flags")
    for a, b in zip(extents, extents[1:]):
        if a.offset + a.length > b.offset:
            raise Broken(f"inode {number}: {a} overlaps {b}")
        goes_on = a.offset + a.length == b.offset and a.start + a.length == b.start
        if goes_on and a.flags == b.flags and group_of(a.start) == group_of(b.start):
            raise Broken(f"inode {number}: {a} and {b} should be one")
    return extents


# The whole volume (sections 13 and 14).


class Check:
    """Everything on a volume, and what is wrong with it."""

    def __init__(self, volume):
        self.volume = volume
        self.problems = []
        self.files = {}
        self.headers = {}
        self.trees = {}
        self.paths = {}
        for group in range(volume.sb.groups):
            self.attempt(self.read_group, group)
        self.attempt(self.check_names)
        for group in self.headers:
            self.attempt(self.check_space, group)
        if volume.has(FEATURE_CSUM):
            self.attempt(self.check_sums)
        self.attempt(self.check_copies)

    def attempt(self, step, *arguments):
        try:
            step(*arguments)
        except (Broken, struct.error) as problem:
            self.problems.append(str(problem))

    def expect(self, found, stored, what):
        if found != stored:
            self.problems.append(f"{what}: {difference(found, stored)}")

    def read_group(self, group):
        volume, start = self.volume, self.volume.start(group)
        try:
            data = volume.structure(start + 1, GROUP, group)[1]
        except Broken as problem:
            self.problems.append(str(problem))
            place = volume.copy_of_header(group)
            data = volume.verified(volume.block(place), GROUP, place, group) and volume.block(place)
        head = self.headers[group] = group_header(data, header.size)
        self.expect((group, start, volume.blocks(group)), (head.group, head.start, head.blocks), f"group {group}")
        roots = {FREE: head.free, REFCOUNT: head.refcount, RMAP: head.rmap, INODES: head.inodes,
                 CLUSTERS: head.clusters, BAD: head.bad}
        trees = self.trees[group] = {}
        for kind, root in roots.items():
            trees[kind] = []
            self.attempt(lambda: trees.update({kind: volume.walk(tree_root(root), kind, group)}))
        used = orphans = 0
        for chunk in trees[INODES]:
            used += bin(chunk.used).count("1")
            orphans += bin(chunk.orphans).count("1")
            if chunk.start % 8 or chunk.orphans & ~chunk.used:
                self.problems.append(f"group {group}: {chunk}")
            for block in range(8):
                volume.use(start + chunk.start + block)
            for i in range(64):
                number = (start + chunk.start) * 8 + i
                self.attempt(self.read_inode, number, group, chunk.used >> i & 1, chunk.orphans >> i & 1)
        self.expect((used, orphans), (head.inodes_used, head.orphans), f"inodes and orphans of group {group}")

    def read_inode(self, number, group, used, orphan):
        volume = self.volume
        data = volume.block(number // 8)[512 * (number % 8):][:512]
        if not used and not any(data):
            return
        volume.verified(data, INODE, number, group)
        fields = inode_fields(data, header.size)
        if used:
            self.files[number] = read_file(volume, number, fields, orphan)
        elif fields.mode:
            raise Broken(f"inode {number}: not in use, but mode is {fields.mode:o}")

    def check_names(self):
        """Names against parent pointers, link counts, and that everything is reached from the root."""
        files, root = self.files, self.volume.sb.root
        forward, backward = set(), set()
        for number, file in files.items():
            backward.update((directory, name, number) for directory, name in file.parents)
            for entry, name, _ in file.names:
                if name in (b".", b"..") or b"/" in name or b"\0" in name:
                    self.problems.append(f"inode {number}: name {name!r}")
                if (number, name, entry.inode) in forward:
                    self.problems.append(f"inode {number}: two entries {name!r}")
                forward.add((number, name, entry.inode))
                target = files.get(entry.inode)
                if target and (target.type, target.inode.generation) != (entry.kind, entry.generation):
                    self.problems.append(f"inode {number}: type or generation of {name!r} is not its target's")
        self.expect(forward, backward, "directory entries against parent pointers")
        links = collections.Counter(inode for _, _, inode in forward)
        links[root] += 1
        for number, file in files.items():
            self.expect(links[number], file.inode.links, f"links of inode {number}")
            if file.type == TYPE_DIRECTORY and number != root and len(file.parents) != 1:
                self.problems.append(f"inode {number}: a directory with {len(file.parents)} parents")
        pending = [(root, b"")]
        while pending:
            number, path = pending.pop()
            first = number not in self.paths
            self.paths.setdefault(number, []).append(path or b"/")
            if number in files and first:
                pending.extend((entry.inode, path + b"/" + name) for entry, name, _ in files[number].names)
        for number, file in files.items():
            if (number not in self.paths) != bool(file.orphan):
                self.problems.append(f"inode {number}: orphan, or not reached from the root, but not both")

    def check_space(self, group):
        """Free space, reverse map, reference counts and clusters, recomputed."""
        volume, trees, head = self.volume, self.trees[group], self.headers[group]
        start, blocks = volume.start(group), volume.blocks(group)
        data = [(e.start - start, e.length, number, e.offset, e.flags)
                for number, file in self.files.items() for e in file.extents
                if e.start // volume.sb.group_blocks == group]
        size = volume.sb.cluster_blocks
        owned = [(0, volume.fixed(group))] + [(c.start, size) for c in trees[CLUSTERS]]
        for record in trees[CLUSTERS]:
            if record.start % size or record.start < volume.fixed(group) or record.start + size > blocks:
                self.problems.append(f"group {group}: {record}")
        covered = sweep([run[:2] for run in data])
        shared = [run for run in covered if run[2] > 1]
        everything = sweep(owned + [run[:2] for run in covered])
        self.expect([], [run for run in everything if run[2] > 1], f"group {group}: roles of blocks")
        free, at = [], 0
        for first, length in merged(run[:2] for run in everything):
            if first > at:
                free.append((at, first - at))
            at = first + length
        if at < blocks:
            free.append((at, blocks - at))
        self.expect(free, [tuple(record) for record in trees[FREE]], f"group {group}: free space")
        self.expect(sum(length for _, length in free), head.free_blocks, f"group {group}: free_blocks")
        self.expect(shared, [tuple(record) for record in trees[REFCOUNT]], f"group {group}: refcounts from extents")
        if shared and not volume.has(FEATURE_REFLINK):
            self.problems.append(f"group {group}: shared blocks without reflink")
        for first, length, number, _, flags in data:
            if flags & UNWRITTEN and any(a < first + length and first < a + n for a, n, _ in shared):
                self.problems.append(f"inode {number}: unwritten and shared at group block {first}")
        if volume.has(FEATURE_RMAP):
            self.check_rmap(group, data, shared)
        self.check_clusters(group)

    def check_rmap(self, group, data, shared):
        volume, trees = self.volume, self.trees[group]
        table = volume.table_blocks(group)
        expected = {(0, 3, HEAD, 0, 0), *data}
        if table:
            expected.add((3, table, CHECKSUMS, 0, 0))
        if group == 0:
            expected.add((volume.sb.journal_start, volume.sb.journal_blocks, OWNED_JOURNAL, 0, 0))
        clusters = merged((record.start, volume.sb.cluster_blocks) for record in trees[CLUSTERS])
        expected.update((first, length, CLUSTER, 0, 0) for first, length in clusters)
        records = [tuple(record) for record in trees[RMAP]]
        self.expect(expected, set(records), f"group {group}: reverse map")
        counted = sweep([record[:2] for record in records if record[2] < CLUSTER])
        self.expect(shared, [run for run in counted if run[2] > 1], f"group {group}: refcounts from the reverse map")

    def check_clusters(self, group):
        volume, start = self.volume, self.volume.start(group)
        marked, unused = set(), 0
        for record in self.trees[group][CLUSTERS]:
            bits = int.from_bytes(record.bitmap, "little")
            self.expect(bin(bits).count("1"), record.used, f"group {group}: used of the cluster at {record.start}")
            if bits >> volume.sb.cluster_blocks:
                self.problems.append(f"group {group}: bits past the cluster at {record.start}")
            unused += volume.sb.cluster_blocks - record.used
            marked.update(start + record.start + b for b in range(512) if bits >> b & 1)
        reached = {block for block in volume.used if start <= block < start + volume.blocks(group)}
        self.expect(reached, marked, f"group {group}: blocks in use within clusters")
        self.expect(unused, self.headers[group].cluster_free, f"group {group}: cluster_free")
        for block in reached:
            if volume.used[block] > 1:
                self.problems.append(f"block {block} is used {volume.used[block]} times")

    def check_sums(self):
        """Sealed checksums of written blocks; nothing else has one."""
        volume = self.volume
        written = set()
        for file in self.files.values():
            for extent in file.extents:
                if not extent.flags & UNWRITTEN:
                    written.update(range(extent.start, extent.start + extent.length))
        for group in range(volume.sb.groups):
            start, blocks = volume.start(group), volume.blocks(group)
            for i in range(volume.table_blocks(group)):
                table = volume.block(start + 3 + i)
                for at in range(0, BLOCK if any(table) else 0, 8):
                    entry, block = sum_entry(table, at), start + 512 * i + at // 8
                    if entry == (0, 0):
                        continue
                    if block not in written or block >= start + blocks or entry.state not in (1, 2):
                        self.problems.append(f"block {block}: {entry}")
                    elif entry.state == 2 and entry.crc:
                        self.problems.append(f"block {block}: open, with a checksum")
                    elif entry.state == 1 and volume.crc(volume.block(block)) != entry.crc:
                        self.problems.append(f"block {block}: the data does not fit its checksum")

    def check_copies(self):
        """On a clean volume all copies are equal to what they copy."""
        volume = self.volume
        if volume.sb.state != 1:
            return
        pairs = [(0, volume.start(group), SUPERBLOCK, 0) for group in range(1, volume.sb.groups)]
        pairs += [(volume.start(g) + 1, volume.copy_of_header(g), GROUP, g) for g in range(volume.sb.groups)]
        for place, copy, kind, owner in pairs:
            first, second = (volume.structure(block, kind, owner)[1] for block in (place, copy))
            without = lambda data: data[:4] + data[8:16] + data[24:]
            self.expect(without(first), without(second), f"copy of block {place} in block {copy}")
        if volume.transactions:
            self.problems.append("clean, but the journal has transactions to replay")


def sweep(runs):
    """Maximal runs with the number of given runs over each, where that is not 0: (start, length, number)."""
    events = collections.Counter()
    for first, length in (run[:2] for run in runs):
        events[first] += 1
        events[first + length] -= 1
    result, depth, since = [], 0, 0
    for place in sorted(events):
        if events[place]:
            if depth:
                result.append((since, place - since, depth))
            depth, since = depth + events[place], place
    return result


def merged(runs):
    """Runs in ascending order, those that touch made one."""
    result = []
    for first, length in sorted(runs):
        if result and result[-1][0] + result[-1][1] >= first:
            begin = result[-1][0]
            result[-1] = (begin, max(result[-1][1], first + length - begin))
        else:
            result.append((first, length))
    return result


def difference(found, stored):
    """What to print of two things that should be equal."""
    if isinstance(found, bytes):
        return "not equal"
    if isinstance(found, (list, set)):
        only, other = set(found) - set(stored), set(stored) - set(found)
        return f"{len(only)} missing {sorted(only)[:3]}, {len(other)} too many {sorted(other)[:3]}"
    return f"is {found}, stored is {stored}"


# What is printed.


def escaped(path):
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in path)


def print_extents(check):
    print("path\toffset\tblock\tblocks\tflags")
    for number in sorted(check.files):
        path = escaped(check.paths.get(number, [b"(orphan)"])[0])
        for extent in check.files[number].extents:
            flags = "unwritten" if extent.flags & UNWRITTEN else "-"
            print(f"{path}\t{extent.offset}\t{extent.start}\t{extent.length}\t{flags}")


def print_digests(check):
    for number, file in sorted(check.files.items()):
        if file.type != TYPE_REGULAR:
            continue
        digest = digest_of(check.volume, file)
        for path in check.paths.get(number, []):
            name = b"." + path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
            mark = b"\\" if len(name) != len(path) + 1 else b""
            sys.stdout.buffer.write(mark + digest.encode() + b"  " + name + b"\n")


def digest_of(volume, file):
    digest, size, at = hashlib.sha256(), file.inode.size, 0
    zeros = bytes(1 << 20)

    def feed_zeros(count):
        while count > 0:
            digest.update(zeros[:count])
            count -= len(zeros)

    for extent in file.extents:
        first = min(extent.offset * BLOCK, size)
        feed_zeros(first - at)
        at = min((extent.offset + extent.length) * BLOCK, size)
        if extent.flags & UNWRITTEN:
            feed_zeros(at - first)
        else:
            digest.update(volume.device[extent.start * BLOCK:extent.start * BLOCK + at - first])
    feed_zeros(size - at)
    return digest.hexdigest()


def main(arguments):
    options = [argument for argument in arguments if argument.startswith("--")]
    images = [argument for argument in arguments if not argument.startswith("--")]
    if len(images) != 1 or not set(options) <= {"--extents", "--sha256"}:
        print(__doc__, file=sys.stderr)
        return 2
    sys.setrecursionlimit(10_000)
    with open(images[0], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as device:
        try:
            volume = Volume(device)
        except (Broken, struct.error) as problem:
            print(f"reader.py: {images[0]}: {problem}", file=sys.stderr)
            return 2
        check = Check(volume)
        if "--extents" in options:
            print_extents(check)
        elif "--sha256" in options:
            print_digests(check)
        else:
            print_summary(check)
        for problem in check.problems[:PROBLEMS_SHOWN]:
            print(f"reader.py: {images[0]}: {problem}", file=sys.stderr)
        if len(check.problems) > PROBLEMS_SHOWN:
            print(f"reader.py: {images[0]}: and {len(check.problems) - PROBLEMS_SHOWN} more", file=sys.stderr)
        return 1 if check.problems else 0


def print_summary(check):
    volume, extents = check.volume, [e for file in check.files.values() for e in file.extents]
    records = {kind: sum(len(trees[kind]) for trees in check.trees.values()) for kind in (FREE, REFCOUNT, RMAP)}
    print(f"{volume.sb.blocks} blocks in {volume.sb.groups} groups, {len(volume.transactions)} transactions replayed")
    print(f"{len(check.files)} inodes, {sum(len(file.names) for file in check.files.values())} names")
    print(f"{len(extents)} extents of {sum(e.length for e in extents)} blocks")
    print(f"{records[FREE]} free, {records[REFCOUNT]} refcount and {records[RMAP]} reverse-map records recomputed")
    print(f"{len(check.problems)} problems")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
