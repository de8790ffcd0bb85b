/*
 * One nf_tables object as a tree of attributes, from and to netlink and from
 * and to the wire.  A tree that exists satisfies its schema.
 *
 * Wire: the attributes of one level, ascending by type (those of a list all
 * have the same), each: u16 type, u16 length, the value.  Of a nest the value
 * is its attributes; of a name, text or device the characters without NUL;
 * of anything else the kernel's bytes.  docs/nft.md.
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */
#ifndef MSC_PROVIDER_NFT_TREE_H
#define MSC_PROVIDER_NFT_TREE_H

#include "bytes.h"
#include "nft-schema.h"

typedef struct MscNftAttr {
    const MscNftSpec *spec;
    GPtrArray *nest; /* of MscNftAttr*; NULL if a value */
    uint8_t *data;
    uint16_t len;
} MscNftAttr;

/* Of MscNftAttr*, freed with the array. */
GPtrArray *msc_nft_attrs_new(void);

/* All of @r.  @what: for messages. */
GPtrArray *msc_nft_attrs_read(MscReader *r, const MscNftSchema *schema,
                              const char *what, GError **errp);
void msc_nft_attrs_write(const GPtrArray *attrs, GByteArray *out);

/*
 * @len bytes of struct nlattr.  What is of this kernel only is left out.
 * @lenient: unknown attributes are left out as well, for comparing.
 */
GPtrArray *msc_nft_attrs_parse(const void *data, size_t len,
                               const MscNftSchema *schema, bool lenient,
                               GError **errp);
/* Appends struct nlattr.  The second one for a single value. */
void msc_nft_attrs_put(const GPtrArray *attrs, GByteArray *out);
void msc_nft_put(GByteArray *out, uint16_t type, const void *data, size_t len);
void msc_nft_put_text(GByteArray *out, uint16_t type, const char *text);
/* Where the nest begins, for the end. */
guint msc_nft_nest_begin(GByteArray *out, uint16_t type);
void msc_nft_nest_end(GByteArray *out, guint begin);

MscNftAttr *msc_nft_find(const GPtrArray *attrs, uint16_t type);
/* Values of attributes; absent is 0 or NULL. */
uint32_t msc_nft_u32(const GPtrArray *attrs, uint16_t type);
uint64_t msc_nft_u64(const GPtrArray *attrs, uint16_t type);
const char *msc_nft_text(const GPtrArray *attrs, uint16_t type);
GPtrArray *msc_nft_nested(const GPtrArray *attrs, uint16_t type);
void msc_nft_set_u32(MscNftAttr *attr, uint32_t v);
void msc_nft_set_u64(MscNftAttr *attr, uint64_t v);
void msc_nft_set_text(MscNftAttr *attr, const char *text);

/* Is all that @wanted says also in @is?  State is not compared. */
bool msc_nft_attrs_hold(const GPtrArray *is, const GPtrArray *wanted);
#endif
