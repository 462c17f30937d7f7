/* SPDX-License-Identifier: Apache-2.0
 *
 * Gives devices of QEMU other ids: preloaded into QEMU, it registers types
 * that are as their parents but for ids and class. They are named in the
 * environment, with spaces between them, all numbers hexadecimal:
 *
 *     EMULATED_DEVICES="k2=edu:10de:11bf:0300:10de:100a ..."
 *
 * QEMU exports what its own modules need (type_register), and its headers are
 * in no package; the struct below is TypeInfo of include/qom/object.h. Where
 * the ids lie in a class is found by the parent's own ids, so this fits every
 * QEMU that has these fields in this order (include/hw/pci/pci_device.h).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct type_info {
    const char *name;
    const char *parent;
    size_t instance_size;
    size_t instance_align;
    void (*instance_init)(void *);
    void (*instance_post_init)(void *);
    void (*instance_finalize)(void *);
    bool is_abstract;
    size_t class_size;
    void (*class_init)(void *, void *);
    void (*class_base_init)(void *, void *);
    void *class_data;
    void *interfaces;
};

void *type_register(const struct type_info *info);

/* Fields of PCIDeviceClass that stand together. */
struct ids {
    uint16_t vendor;
    uint16_t device;
    uint8_t revision;
    uint16_t class_id;
    uint16_t subsystem_vendor;
    uint16_t subsystem;
};

static const struct {
    const char *name;
    struct ids ids;
} parents[] = {
    {"edu", {0x1234, 0x11e8, 0x10, 0x00ff, 0, 0}},
    {"ivshmem-plain", {0x1af4, 0x1110, 0x01, 0x0500, 0, 0}},
    {"intel-hda", {0x8086, 0x2668, 0x01, 0x0403, 0, 0}},
};

struct device {
    char name[64];
    char parent[32];
    struct ids own;
    const struct ids *known;
};

/* PCIDeviceClass ends within this many bytes. */
#define CLASS_BYTES 480

static void set_ids(void *klass, void *data)
{
    const struct device *device = data;
    for (size_t at = 0; at + sizeof(struct ids) <= CLASS_BYTES; at += 2) {
        struct ids *found = (struct ids *)((char *)klass + at);
        if (found->vendor == device->known->vendor &&
            found->device == device->known->device &&
            found->class_id == device->known->class_id) {
            *found = device->own;
            return;
        }
    }
    fprintf(stderr, "emulated.c: this QEMU keeps the ids of %s elsewhere\n",
            device->parent);
    exit(1);
}

static void add(const char *text)
{
    struct device *device = calloc(1, sizeof(*device));
    unsigned vendor, product, class_id, subvendor, subproduct;
    if (!device ||
        sscanf(text, "%63[^=]=%31[^:]:%x:%x:%x:%x:%x", device->name,
               device->parent, &vendor, &product, &class_id, &subvendor,
               &subproduct) != 7) {
        fprintf(stderr, "emulated.c: cannot read '%s'\n", text);
        exit(1);
    }
    for (size_t i = 0; i < sizeof(parents) / sizeof(*parents); i++) {
        if (strcmp(parents[i].name, device->parent) == 0) {
            device->known = &parents[i].ids;
        }
    }
    if (!device->known) {
        fprintf(stderr, "emulated.c: no parent '%s'\n", device->parent);
        exit(1);
    }
    device->own = (struct ids){
        vendor, product, 0xa1, class_id, subvendor, subproduct,
    };
    struct type_info info = {
        .name = device->name,
        .parent = device->parent,
        .class_init = set_ids,
        .class_data = device,
    };
    type_register(&info);
}

__attribute__((constructor)) static void add_all(void)
{
    const char *wanted = getenv("EMULATED_DEVICES");
    if (!wanted) {
        return;
    }
    char *rest = strdup(wanted);
    for (char *one = strsep(&rest, " "); one; one = strsep(&rest, " ")) {
        if (*one) {
            add(one);
        }
    }
}
