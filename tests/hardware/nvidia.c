/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A kernel module named nvidia that claims what NVIDIA's driver claims, and
 * does nothing with it.
 */

#include <linux/module.h>
#include <linux/pci.h>

static int take(struct pci_dev *device, const struct pci_device_id *id)
{
    return 0;
}

static void give_back(struct pci_dev *device)
{
}

/* As in NVIDIA's open kernel modules: VGA and 3D controllers. */
static const struct pci_device_id claimed[] = {
    {PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID, PCI_ANY_ID, PCI_ANY_ID,
     PCI_CLASS_DISPLAY_VGA << 8, ~0, 0},
    {PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID, PCI_ANY_ID, PCI_ANY_ID,
     PCI_CLASS_DISPLAY_3D << 8, ~0, 0},
    {},
};
MODULE_DEVICE_TABLE(pci, claimed);

static struct pci_driver stand_in = {
    .name = "nvidia",
    .id_table = claimed,
    .probe = take,
    .remove = give_back,
};
module_pci_driver(stand_in);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Claims NVIDIA's display devices and does nothing");
