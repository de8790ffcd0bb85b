/*
 * The control socket: what the command line asks of the daemon.
 *
 * One request, one reply, each JSON text behind a u32 length:
 *   {"command":"status"}
 *   {"command":"resolve","vm":UUID,"here":bool,"force":bool}
 *   the same with "code":TEXT, what the other host gave
 *   {"command":"check","vm":UUID,"to":NAME}
 *   {"command":"diff","vm":UUID}
 *   {"error":TEXT} or {"result":{...}}
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef MSC_DAEMON_CONTROL_H
#define MSC_DAEMON_CONTROL_H

#include <json-glib/json-glib.h>
#include <stdbool.h>

#include "frame.h"

/* A reply, bytes. */
#define MSC_CONTROL_MAX (1024 * 1024)
/* A request: too short to nest deeply, as json-glib's parser recurses. */
#define MSC_CONTROL_REQUEST_MAX 4096

typedef enum {
    MSC_CONTROL_STATUS,
    MSC_CONTROL_RESOLVE,
    MSC_CONTROL_CHECK,
    MSC_CONTROL_DIFF,
} MscControlCommand;

typedef struct {
    MscControlCommand command;
    char *vm;
    bool here;
    bool force;
    char *code; /* or NULL */
    char *to;   /* host to check */
} MscControlRequest;

void msc_control_request_clear(MscControlRequest *request);
/* Strict: an unknown member, or one that is there twice, is an error. */
bool msc_control_request_parse(const char *text, size_t len,
                               MscControlRequest *request, GError **errp);
bool msc_control_read_request(int fd, MscControlRequest *request,
                              gint64 deadline, GError **errp);
/* @result or @err. */
bool msc_control_write_reply(int fd, JsonNode *result, const GError *err,
                             gint64 deadline, GError **errp);
/* For the command line: the result, or the daemon's error. */
JsonNode *msc_control_call(const char *socket_path,
                           const MscControlRequest *request,
                           unsigned timeout_ms, GError **errp);

#endif
