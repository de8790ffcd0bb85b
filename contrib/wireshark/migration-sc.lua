-- Wireshark dissector of the migration-sc transport: the handshake and the
-- framing of records.  docs/transport.md.  What is sealed stays sealed.
--
-- Copy it to the personal plugin folder (Help, About, Folders), or:
--   tshark -X lua_script:migration-sc.lua -r FILE
--
-- A connection is recognized by its first message.  For one that was captured
-- from its middle: Decode As, and the tag's length in the preferences.
--
-- SPDX-License-Identifier: GPL-2.0-or-later

local migsc = Proto("migration-sc", "migration-sc transport")

local MAGIC = 0x4d534354 -- "MSCT"
local HANDSHAKE_MAX = 1024 * 1024
local PAYLOAD_MAX = 512 * 1024
local RECORD_HEADER = 8
local SEAL_TAG = 16 -- of XChaCha20-Poly1305, which seals the handshake

local HELLO, ACCEPT, AUTH, ADMIT = 1, 2, 3, 4
local REFUSE, REFUSE_SEALED = 5, 6
local FURTHER, FURTHER_OK = 16, 17
local DATA, END = 1, 2

local messages = {
    [HELLO] = "HELLO", [ACCEPT] = "ACCEPT", [AUTH] = "AUTH",
    [ADMIT] = "ADMIT", [REFUSE] = "REFUSE (in clear)",
    [REFUSE_SEALED] = "REFUSE (sealed)",
    [FURTHER] = "FURTHER", [FURTHER_OK] = "FURTHER_OK",
}
local suites = {
    [1] = "aegis-128l", [2] = "aegis-256", [3] = "aes-256-gcm",
    [4] = "xchacha20-poly1305", [5] = "integrity-only",
}
local tag_lengths = { [1] = 32, [2] = 32, [3] = 16, [4] = 16, [5] = 32 }
local kems = { [1] = "X25519", [2] = "X-Wing" }
local ciphertexts = { [1] = 32, [2] = 1120 }
local kinds = { [1] = "main", [2] = "multifd", [3] = "postcopy preempt",
                [4] = "recovered" }
local record_types = { [DATA] = "data", [END] = "end of the stream" }

local f = migsc.fields
local p = "migration-sc."
f.h_length = ProtoField.uint32(p .. "handshake.length", "Length")
f.h_type = ProtoField.uint8(p .. "handshake.type", "Message", base.DEC,
                            messages)
f.h_magic = ProtoField.uint32(p .. "handshake.magic", "Magic", base.HEX)
f.h_version = ProtoField.uint16(p .. "handshake.version", "Version")
f.h_oldest = ProtoField.uint16(p .. "handshake.oldest", "Oldest version")
f.h_id = ProtoField.bytes(p .. "handshake.migration_id", "Migration id")
f.h_nonce = ProtoField.bytes(p .. "handshake.nonce", "Nonce")
f.h_suite = ProtoField.uint8(p .. "handshake.suite", "Suite", base.DEC, suites)
f.h_kem = ProtoField.uint8(p .. "handshake.kem", "Key agreement", base.DEC,
                           kems)
f.h_public = ProtoField.bytes(p .. "handshake.public_key",
                              "One-time public key")
f.h_ciphertext = ProtoField.bytes(p .. "handshake.ciphertext", "Ciphertext")
f.h_sealed = ProtoField.bytes(p .. "handshake.sealed", "Sealed")
f.h_reason = ProtoField.string(p .. "handshake.reason", "Reason")
f.h_kind = ProtoField.uint8(p .. "handshake.kind", "Channel", base.DEC, kinds)
f.h_number = ProtoField.uint32(p .. "handshake.number", "Number")
f.h_epoch = ProtoField.uint32(p .. "handshake.epoch", "Epoch")
f.h_mac = ProtoField.bytes(p .. "handshake.mac", "MAC")
f.r_length = ProtoField.uint32(p .. "record.length", "Payload length")
f.r_type = ProtoField.uint8(p .. "record.type", "Record", base.DEC,
                            record_types)
f.r_rekey = ProtoField.bool(p .. "record.rekey", "Key changes after it", 8,
                            nil, 0x01)
f.r_payload = ProtoField.bytes(p .. "record.payload", "Sealed payload")
f.r_clear = ProtoField.bytes(p .. "record.clear", "Payload in clear")
f.r_tag = ProtoField.bytes(p .. "record.tag", "Tag")

local malformed = ProtoExpert.new(p .. "malformed",
                                  "Not the migration-sc transport",
                                  expert.group.MALFORMED,
                                  expert.severity.ERROR)
migsc.experts = { malformed }

migsc.prefs.tag = Pref.uint("Tag length", 32,
    "Of records on connections whose handshake was not captured: 32 " ..
    "(AEGIS, integrity-only) or 16")

local tcp_stream = Field.new("tcp.stream")

-- What the handshakes of this capture have told.
local suite_of_stream, id_of_stream, suite_of_id = {}, {}, {}

function migsc.init()
    suite_of_stream, id_of_stream, suite_of_id = {}, {}, {}
end

local function stream_suite(stream)
    return suite_of_stream[stream] or suite_of_id[id_of_stream[stream] or ""]
end

-- A record's bytes 6 and 7 are zero, and its type is 1 or 2.  HELLO has its
-- magic there and ACCEPT its version; no other message has such a type.
local function is_record(buf)
    local kind = buf(4, 1):uint()
    return (kind == DATA or kind == END) and buf(6, 2):uint() == 0
end

local function is_first_message(buf)
    if buf:len() < 10 then
        return false
    end
    local length, kind = buf(0, 4):uint(), buf(4, 1):uint()
    return length >= 1 and length <= HANDSHAKE_MAX and
        (kind == HELLO or kind == FURTHER) and buf(5, 1):uint() == 0 and
        buf(6, 4):uint() == MAGIC
end

-- Takes fields one after the other; stops, and says so, where they end.
local function cursor(buf, tree)
    local at, c = 0, {}
    function c.left()
        return buf:len() - at
    end
    function c.take(field, length)
        if c.left() < length then
            error("cut short")
        end
        local range = buf(at, length)
        at = at + length
        if field and length > 0 then
            tree:add(field, range)
        end
        return range
    end
    return c
end

local dissect_message = {}

dissect_message[HELLO] = function(c, stream)
    c.take(f.h_magic, 4)
    c.take(f.h_version, 2)
    c.take(f.h_oldest, 2)
    id_of_stream[stream] = c.take(f.h_id, 16):bytes():tohex()
    c.take(f.h_nonce, 32)
    for _ = 1, c.take(nil, 1):uint() do
        c.take(f.h_suite, 1)
    end
    for _ = 1, c.take(nil, 1):uint() do
        c.take(f.h_kem, 1)
        c.take(f.h_public, c.take(nil, 2):uint())
    end
end

dissect_message[ACCEPT] = function(c, stream)
    c.take(f.h_version, 2)
    local suite = c.take(f.h_suite, 1):uint()
    local length = ciphertexts[c.take(f.h_kem, 1):uint()]
    suite_of_stream[stream] = suite
    if id_of_stream[stream] then
        suite_of_id[id_of_stream[stream]] = suite
    end
    if not length then
        error("unknown key agreement")
    end
    c.take(f.h_ciphertext, length)
    c.take(f.h_nonce, 32)
    c.take(f.h_sealed, c.left())
end

local function dissect_sealed(c)
    if c.left() < SEAL_TAG then
        error("cut short")
    end
    c.take(f.h_sealed, c.left())
end
dissect_message[AUTH] = dissect_sealed
dissect_message[ADMIT] = dissect_sealed
dissect_message[REFUSE_SEALED] = dissect_sealed

dissect_message[REFUSE] = function(c)
    c.take(f.h_reason, c.take(nil, 2):uint())
end

dissect_message[FURTHER] = function(c, stream)
    c.take(f.h_magic, 4)
    c.take(f.h_version, 2)
    id_of_stream[stream] = c.take(f.h_id, 16):bytes():tohex()
    c.take(f.h_kind, 1)
    c.take(f.h_number, 4)
    c.take(f.h_epoch, 4)
    c.take(f.h_nonce, 32)
    c.take(f.h_mac, 32)
end

dissect_message[FURTHER_OK] = function(c)
    c.take(f.h_nonce, 32)
    c.take(f.h_mac, 32)
end

-- Each returns how long the unit is, the name for the info column, or nil and
-- what is wrong; with @tree nil it only measures.

local function handshake(buf, stream, tree)
    local length, kind = buf(0, 4):uint(), buf(4, 1):uint()
    if length < 2 or length > HANDSHAKE_MAX or buf(5, 1):uint() ~= 0 or
        not dissect_message[kind] then
        return nil, "neither a record nor a handshake message"
    end
    if not tree then
        return 4 + length
    end
    tree:add(f.h_length, buf(0, 4))
    tree:add(f.h_type, buf(4, 1))
    local c = cursor(buf(6, length - 2), tree)
    local ok, why = pcall(dissect_message[kind], c, stream)
    if not ok then
        return nil, messages[kind] .. ": " .. tostring(why)
    end
    if c.left() > 0 then
        return nil, messages[kind] .. ": trailing bytes"
    end
    return 4 + length, messages[kind]
end

local function record(buf, stream, tree)
    local payload, kind = buf(0, 4):uint(), buf(4, 1):uint()
    local suite = stream_suite(stream)
    local tag = tag_lengths[suite or 0] or migsc.prefs.tag
    if payload > PAYLOAD_MAX or (kind == DATA) ~= (payload > 0) or
        buf(5, 1):uint() > 1 then
        return nil, "not a record"
    end
    local length = RECORD_HEADER + payload + tag
    if not tree then
        return length
    end
    tree:add(f.r_length, buf(0, 4))
    tree:add(f.r_type, buf(4, 1))
    tree:add(f.r_rekey, buf(5, 1))
    if payload > 0 then
        local clear = suites[suite or 0] == "integrity-only"
        tree:add(clear and f.r_clear or f.r_payload,
                 buf(RECORD_HEADER, payload))
    end
    tree:add(f.r_tag, buf(RECORD_HEADER + payload, tag))
    return length, record_types[kind]
end

function migsc.dissector(buf, pinfo, root)
    local stream, at, names = tcp_stream().value, 0, {}
    pinfo.cols.protocol = "migration-sc"
    while at < buf:len() do
        local rest = buf(at):tvb()
        local length, name, unit
        -- A header of either kind has at least its first eight bytes.
        if rest:len() < RECORD_HEADER then
            pinfo.desegment_offset = at
            pinfo.desegment_len = DESEGMENT_ONE_MORE_SEGMENT
            break
        end
        unit = is_record(rest) and record or handshake
        length, name = unit(rest, stream)
        if length and length > rest:len() then
            pinfo.desegment_offset = at
            pinfo.desegment_len = length - rest:len()
            break
        end
        local tree = root:add(migsc, rest(0, length or rest:len()))
        if length then
            length, name = unit(rest(0, length):tvb(), stream, tree)
        end
        if not length then
            tree:add_proto_expert_info(malformed, name)
            names[#names + 1] = "malformed"
            break
        end
        tree:append_text(", " .. name)
        names[#names + 1] = name
        at = at + length
    end
    if #names > 0 then
        pinfo.cols.info = table.concat(names, ", ")
    end
    return buf:len()
end

migsc:register_heuristic("tcp", function(buf, pinfo, root)
    if not is_first_message(buf) then
        return false
    end
    pinfo.conversation = migsc
    migsc.dissector(buf, pinfo, root)
    return true
end)
DissectorTable.get("tcp.port"):add_for_decode_as(migsc)
