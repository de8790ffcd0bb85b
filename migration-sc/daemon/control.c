/*
 * Both ends of the control protocol.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "control.h"

#include <string.h>
#include <unistd.h>

#include "error.h"

static const char *const commands[] = {
    [MSC_CONTROL_STATUS] = "status",
    [MSC_CONTROL_RESOLVE] = "resolve",
    [MSC_CONTROL_CHECK] = "check",
    [MSC_CONTROL_DIFF] = "diff",
};

/* Members that were there, and those that each command needs. */
enum {
    HAS_COMMAND = 1,
    HAS_VM = 2,
    HAS_HERE = 4,
    HAS_FORCE = 8,
    HAS_CODE = 16,
    HAS_TO = 32,
};

static const int needs[] = {
    [MSC_CONTROL_STATUS] = HAS_COMMAND,
    [MSC_CONTROL_RESOLVE] = HAS_COMMAND | HAS_VM | HAS_HERE | HAS_FORCE,
    [MSC_CONTROL_CHECK] = HAS_COMMAND | HAS_VM | HAS_TO,
    [MSC_CONTROL_DIFF] = HAS_COMMAND | HAS_VM,
};

void msc_control_request_clear(MscControlRequest *request)
{
    g_clear_pointer(&request->vm, g_free);
    g_clear_pointer(&request->code, g_free);
    g_clear_pointer(&request->to, g_free);
}

static bool bad_request(GError **errp, const char *why)
{
    g_set_error(errp, MSC_ERROR, MSC_ERROR_MALFORMED, "control request: %s",
                why);
    return false;
}

static bool parse_member(MscControlRequest *request, const char *name,
                         JsonNode *node, int *seen, GError **errp)
{
    GType type = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node)
                                             : G_TYPE_NONE;

    if (!strcmp(name, "command") && type == G_TYPE_STRING) {
        for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
            if (!strcmp(json_node_get_string(node), commands[i])) {
                request->command = (MscControlCommand)i;
                *seen |= HAS_COMMAND;
                return true;
            }
        }
        return bad_request(errp, "unknown command");
    }
    if (!strcmp(name, "vm") && type == G_TYPE_STRING &&
        g_uuid_string_is_valid(json_node_get_string(node))) {
        g_free(request->vm);
        request->vm = g_strdup(json_node_get_string(node));
        *seen |= HAS_VM;
        return true;
    }
    if (!strcmp(name, "here") && type == G_TYPE_BOOLEAN) {
        request->here = json_node_get_boolean(node);
        *seen |= HAS_HERE;
        return true;
    }
    if (!strcmp(name, "force") && type == G_TYPE_BOOLEAN) {
        request->force = json_node_get_boolean(node);
        *seen |= HAS_FORCE;
        return true;
    }
    if (!strcmp(name, "code") && type == G_TYPE_STRING) {
        g_free(request->code);
        request->code = g_strdup(json_node_get_string(node));
        *seen |= HAS_CODE;
        return true;
    }
    if (!strcmp(name, "to") && type == G_TYPE_STRING) {
        g_free(request->to);
        request->to = g_strdup(json_node_get_string(node));
        *seen |= HAS_TO;
        return true;
    }
    return bad_request(errp, "unknown member, or of the wrong type");
}

typedef struct {
    gint64 members; /* read, but not kept */
    unsigned depth;
    unsigned roots;
} Seen;

static void member_read(JsonParser *parser, JsonObject *object,
                        const char *name, void *opaque)
{
    Seen *seen = opaque;

    (void)parser;
    (void)object;
    (void)name;
    seen->members++;
}

static void object_begins(JsonParser *parser, void *opaque)
{
    Seen *seen = opaque;

    (void)parser;
    seen->roots += !seen->depth++;
}

static void object_ends(JsonParser *parser, JsonObject *object, void *opaque)
{
    Seen *seen = opaque;

    (void)parser;
    seen->depth--;
    seen->members -= json_object_get_size(object);
}

/*
 * One object and nothing else.  Of two members with one name, as of two texts
 * in a row, json-glib keeps the last and does not say so; it also takes
 * "var x = {}".  So what it read is counted against what it kept.
 */
static JsonNode *parse_object(const char *text, size_t len, GError **errp)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) err = NULL;
    Seen seen = { 0 };
    JsonNode *root;

    g_signal_connect(parser, "object-member", G_CALLBACK(member_read), &seen);
    g_signal_connect(parser, "object-start", G_CALLBACK(object_begins), &seen);
    g_signal_connect(parser, "object-end", G_CALLBACK(object_ends), &seen);
    if (!len || text[0] != '{') {
        bad_request(errp, "not an object");
        return NULL;
    }
    if (!g_utf8_validate(text, (gssize)len, NULL) ||
        !json_parser_load_from_data(parser, text, (gssize)len, &err)) {
        bad_request(errp, err ? err->message : "not UTF-8");
        return NULL;
    }
    if (seen.members || seen.roots != 1) {
        bad_request(errp, "a member, or the whole request, is there twice");
        return NULL;
    }
    root = json_parser_get_root(parser);
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        bad_request(errp, "not an object");
        return NULL;
    }
    return json_node_ref(root);
}

bool msc_control_request_parse(const char *text, size_t len,
                               MscControlRequest *request, GError **errp)
{
    g_autoptr(JsonNode) root = parse_object(text, len, errp);
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;
    int seen = 0;

    if (!root) {
        return false;
    }
    json_object_iter_init(&iter, json_node_get_object(root));
    while (json_object_iter_next(&iter, &name, &node)) {
        if (!parse_member(request, name, node, &seen, errp)) {
            return false;
        }
    }
    if ((seen & ~HAS_CODE) != needs[request->command] ||
        (request->code && request->command != MSC_CONTROL_RESOLVE)) {
        return bad_request(errp, "a member is missing or too many");
    }
    return true;
}

static char *recv_text(int fd, uint32_t max, gint64 deadline, const char *who,
                       uint32_t *len, GError **errp)
{
    g_autofree char *text = NULL;
    uint8_t be[4];

    if (!msc_socket_recv(fd, be, sizeof(be), deadline, who, errp)) {
        return NULL;
    }
    *len = (uint32_t)be[0] << 24 | be[1] << 16 | be[2] << 8 | be[3];
    if (!*len || *len > max) {
        bad_request(errp, "bad length");
        return NULL;
    }
    text = g_malloc0(*len + 1);
    if (!msc_socket_recv(fd, text, *len, deadline, who, errp)) {
        return NULL;
    }
    return g_steal_pointer(&text);
}

static bool send_json(int fd, JsonBuilder *b, gint64 deadline, const char *who,
                      GError **errp)
{
    g_autoptr(JsonNode) root = json_builder_get_root(b);
    g_autofree char *text = json_to_string(root, FALSE);
    size_t len = strlen(text);
    uint8_t be[4] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16),
                      (uint8_t)(len >> 8), (uint8_t)len };

    return msc_socket_send(fd, be, sizeof(be), deadline, who, errp) &&
           msc_socket_send(fd, text, len, deadline, who, errp);
}

bool msc_control_read_request(int fd, MscControlRequest *request,
                              gint64 deadline, GError **errp)
{
    g_autofree char *text = NULL;
    uint32_t len;

    text = recv_text(fd, MSC_CONTROL_REQUEST_MAX, deadline, "the command line",
                     &len, errp);
    return text && msc_control_request_parse(text, len, request, errp);
}

bool msc_control_write_reply(int fd, JsonNode *result, const GError *err,
                             gint64 deadline, GError **errp)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    json_builder_begin_object(b);
    json_builder_set_member_name(b, result ? "result" : "error");
    if (result) {
        json_builder_add_value(b, json_node_copy(result));
    } else {
        json_builder_add_string_value(b, err ? err->message : "no reason");
    }
    json_builder_end_object(b);
    return send_json(fd, b, deadline, "the command line", errp);
}

static JsonNode *take_reply(int fd, unsigned timeout_ms, GError **errp)
{
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;
    JsonObject *object;
    uint32_t len;

    text = recv_text(fd, MSC_CONTROL_MAX, msc_deadline(timeout_ms),
                     "migration-scd", &len, errp);
    root = text ? parse_object(text, len, errp) : NULL;
    if (!root) {
        return NULL;
    }
    object = json_node_get_object(root);
    if (json_object_has_member(object, "error")) {
        g_set_error_literal(errp, MSC_ERROR, MSC_ERROR_REFUSED,
                            json_object_get_string_member_with_default(
                                object, "error", "no reason"));
        return NULL;
    }
    if (!json_object_has_member(object, "result")) {
        bad_request(errp, "the daemon's reply has no result");
        return NULL;
    }
    return json_node_copy(json_object_get_member(object, "result"));
}

JsonNode *msc_control_call(const char *socket_path,
                           const MscControlRequest *request,
                           unsigned timeout_ms, GError **errp)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    gint64 deadline = msc_deadline(timeout_ms);
    JsonNode *result = NULL;
    int fd;

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "command");
    json_builder_add_string_value(b, commands[request->command]);
    if (request->command == MSC_CONTROL_RESOLVE) {
        json_builder_set_member_name(b, "vm");
        json_builder_add_string_value(b, request->vm);
        json_builder_set_member_name(b, "here");
        json_builder_add_boolean_value(b, request->here);
        json_builder_set_member_name(b, "force");
        json_builder_add_boolean_value(b, request->force);
        if (request->code) {
            json_builder_set_member_name(b, "code");
            json_builder_add_string_value(b, request->code);
        }
    }
    if (request->command == MSC_CONTROL_CHECK) {
        json_builder_set_member_name(b, "vm");
        json_builder_add_string_value(b, request->vm);
        json_builder_set_member_name(b, "to");
        json_builder_add_string_value(b, request->to);
    }
    if (request->command == MSC_CONTROL_DIFF) {
        json_builder_set_member_name(b, "vm");
        json_builder_add_string_value(b, request->vm);
    }
    json_builder_end_object(b);
    fd = msc_unix_connect(socket_path, deadline, errp);
    if (fd < 0) {
        return NULL;
    }
    if (send_json(fd, b, deadline, "migration-scd", errp)) {
        result = take_reply(fd, timeout_ms, errp);
    }
    close(fd);
    return result;
}
