/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A kernel module that makes mediated devices of the GPUs that nvidia.c has
 * claimed, with types like those of NVIDIA's vGPU: all that a GPU carries are
 * of one type. What a guest gets is a PCI device with ids and nothing behind
 * them: no BAR, no interrupt, no DMA.
 *
 * It is for Linux 6.1; the interface of mediated devices (linux/mdev.h,
 * linux/vfio.h) is another one in other versions, where it does not compile.
 */

#include <linux/list.h>
#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

static const struct {
    const char *id; /* sysfs: the name of the parent's driver goes before it */
    const char *name;
    unsigned int mib;
    unsigned int most;
} kinds[] = {
    {"35", "GRID T4-2B", 2048, 8},
    {"36", "GRID T4-8Q", 8192, 2},
};

#define KINDS ARRAY_SIZE(kinds)

struct gpu;

struct type {
    struct mdev_type mdev;
    struct gpu *gpu;
    unsigned int kind;
    unsigned int made;
};

struct gpu {
    struct list_head list;
    struct pci_dev *pci;
    struct mdev_parent parent;
    struct type types[KINDS];
    struct mdev_type *registered[KINDS];
};

struct vgpu {
    struct vfio_device vfio;
    u8 config[PCI_CFG_SPACE_SIZE];
};

static LIST_HEAD(gpus);
static DEFINE_MUTEX(lock); /* of all that is counted in "made" */

static unsigned int count_free(const struct type *type)
{
    unsigned int kind;

    lockdep_assert_held(&lock);
    for (kind = 0; kind < KINDS; kind++)
        if (kind != type->kind && type->gpu->types[kind].made)
            return 0;
    return kinds[type->kind].most - type->made;
}

static void set16(struct vgpu *vgpu, int offset, u16 value)
{
    vgpu->config[offset] = value & 0xff;
    vgpu->config[offset + 1] = value >> 8;
}

static int init(struct vfio_device *vfio)
{
    struct vgpu *vgpu = container_of(vfio, struct vgpu, vfio);
    struct mdev_device *mdev = to_mdev_device(vfio->dev);
    struct type *type = container_of(mdev->type, struct type, mdev);

    set16(vgpu, PCI_VENDOR_ID, type->gpu->pci->vendor);
    set16(vgpu, PCI_DEVICE_ID, type->gpu->pci->device);
    set16(vgpu, PCI_CLASS_DEVICE, PCI_CLASS_DISPLAY_3D);
    set16(vgpu, PCI_SUBSYSTEM_VENDOR_ID, type->gpu->pci->vendor);
    set16(vgpu, PCI_SUBSYSTEM_ID, type->kind);
    return 0;
}

static void release(struct vfio_device *vfio)
{
    vfio_free_device(vfio);
}

/* The only region with bytes, so that it begins at the file's first. */

static ssize_t read_config(struct vfio_device *vfio, char __user *to,
                           size_t count, loff_t *at)
{
    struct vgpu *vgpu = container_of(vfio, struct vgpu, vfio);

    return simple_read_from_buffer(to, count, at, vgpu->config,
                                   sizeof(vgpu->config));
}

static ssize_t write_config(struct vfio_device *vfio, const char __user *from,
                            size_t count, loff_t *at)
{
    struct vgpu *vgpu = container_of(vfio, struct vgpu, vfio);
    u8 written[PCI_CFG_SPACE_SIZE];
    ssize_t done;
    loff_t offset = *at;
    int i;

    done = simple_write_to_buffer(written, sizeof(written), at, from, count);
    for (i = offset; i < offset + done; i++)
        if (i == PCI_COMMAND || i == PCI_COMMAND + 1 ||
            i == PCI_INTERRUPT_LINE)
            vgpu->config[i] = written[i];
    return done;
}

static long tell_device(void __user *arg)
{
    const size_t size = offsetofend(struct vfio_device_info, num_irqs);
    struct vfio_device_info info;

    if (copy_from_user(&info, arg, size))
        return -EFAULT;
    if (info.argsz < size)
        return -EINVAL;
    info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
    info.num_regions = VFIO_PCI_NUM_REGIONS;
    info.num_irqs = VFIO_PCI_NUM_IRQS;
    return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

static long tell_region(void __user *arg)
{
    const size_t size = offsetofend(struct vfio_region_info, offset);
    struct vfio_region_info info;
    bool is_config;

    if (copy_from_user(&info, arg, size))
        return -EFAULT;
    if (info.argsz < size || info.index >= VFIO_PCI_NUM_REGIONS)
        return -EINVAL;
    is_config = info.index == VFIO_PCI_CONFIG_REGION_INDEX;
    info.flags =
        is_config ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
                  : 0;
    info.size = is_config ? PCI_CFG_SPACE_SIZE : 0;
    info.offset = 0;
    info.cap_offset = 0;
    return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

static long tell_irq(void __user *arg)
{
    const size_t size = offsetofend(struct vfio_irq_info, count);
    struct vfio_irq_info info;

    if (copy_from_user(&info, arg, size))
        return -EFAULT;
    if (info.argsz < size || info.index >= VFIO_PCI_NUM_IRQS)
        return -EINVAL;
    info.flags = 0;
    info.count = 0;
    return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

static long control(struct vfio_device *vfio, unsigned int command,
                    unsigned long arg)
{
    struct vgpu *vgpu = container_of(vfio, struct vgpu, vfio);
    void __user *place = (void __user *)arg;

    switch (command) {
    case VFIO_DEVICE_GET_INFO:
        return tell_device(place);
    case VFIO_DEVICE_GET_REGION_INFO:
        return tell_region(place);
    case VFIO_DEVICE_GET_IRQ_INFO:
        return tell_irq(place);
    case VFIO_DEVICE_RESET:
        set16(vgpu, PCI_COMMAND, 0);
        return 0;
    default:
        return -ENOTTY;
    }
}

static const struct vfio_device_ops ops = {
    .name = "nvidia-vgpu-vfio",
    .init = init,
    .release = release,
    .read = read_config,
    .write = write_config,
    .ioctl = control,
};

static void count_one_less(struct type *type)
{
    mutex_lock(&lock);
    type->made--;
    mutex_unlock(&lock);
}

static int make(struct mdev_device *mdev)
{
    struct type *type = container_of(mdev->type, struct type, mdev);
    struct vgpu *vgpu;
    bool has_room;
    int error;

    mutex_lock(&lock);
    has_room = count_free(type) > 0;
    if (has_room)
        type->made++;
    mutex_unlock(&lock);
    if (!has_room)
        return -ENOSPC;
    vgpu = vfio_alloc_device(vgpu, vfio, &mdev->dev, &ops);
    if (IS_ERR(vgpu)) {
        error = PTR_ERR(vgpu);
        goto not_made;
    }
    error = vfio_register_emulated_iommu_dev(&vgpu->vfio);
    if (error) {
        vfio_put_device(&vgpu->vfio);
        goto not_made;
    }
    dev_set_drvdata(&mdev->dev, vgpu);
    return 0;
not_made:
    count_one_less(type);
    return error;
}

static void take_away(struct mdev_device *mdev)
{
    struct vgpu *vgpu = dev_get_drvdata(&mdev->dev);

    vfio_unregister_group_dev(&vgpu->vfio);
    vfio_put_device(&vgpu->vfio);
    count_one_less(container_of(mdev->type, struct type, mdev));
}

static unsigned int get_available(struct mdev_type *mdev)
{
    unsigned int found;

    mutex_lock(&lock);
    found = count_free(container_of(mdev, struct type, mdev));
    mutex_unlock(&lock);
    return found;
}

static ssize_t describe(struct mdev_type *mdev, char *text)
{
    struct type *type = container_of(mdev, struct type, mdev);

    return sysfs_emit(text, "framebuffer=%uM, max_instance=%u\n",
                      kinds[type->kind].mib, kinds[type->kind].most);
}

static struct mdev_driver driver = {
    .device_api = VFIO_DEVICE_API_PCI_STRING,
    .probe = make,
    .remove = take_away,
    .get_available = get_available,
    .show_description = describe,
    .driver = {
        .name = "nvidia-vgpu-vfio",
        .owner = THIS_MODULE,
        .mod_name = KBUILD_MODNAME,
    },
};

static int add(struct pci_dev *pci)
{
    struct gpu *gpu = kzalloc(sizeof(*gpu), GFP_KERNEL);
    unsigned int kind;
    int error;

    if (!gpu)
        return -ENOMEM;
    gpu->pci = pci_dev_get(pci);
    for (kind = 0; kind < KINDS; kind++) {
        gpu->types[kind].gpu = gpu;
        gpu->types[kind].kind = kind;
        gpu->types[kind].mdev.sysfs_name = kinds[kind].id;
        gpu->types[kind].mdev.pretty_name = kinds[kind].name;
        gpu->registered[kind] = &gpu->types[kind].mdev;
    }
    error = mdev_register_parent(&gpu->parent, &pci->dev, &driver,
                                 gpu->registered, KINDS);
    if (error) {
        pci_dev_put(pci);
        kfree(gpu);
        return error;
    }
    list_add(&gpu->list, &gpus);
    return 0;
}

static void stop(void)
{
    struct gpu *gpu, *next;

    list_for_each_entry_safe(gpu, next, &gpus, list) {
        mdev_unregister_parent(&gpu->parent);
        pci_dev_put(gpu->pci);
        kfree(gpu);
    }
    mdev_unregister_driver(&driver);
}

static int __init start(void)
{
    struct pci_dev *pci = NULL;
    int error = mdev_register_driver(&driver);

    if (error)
        return error;
    for_each_pci_dev(pci) {
        struct pci_driver *claimant = pci_dev_driver(pci);

        if (!claimant || strcmp(claimant->name, "nvidia"))
            continue;
        error = add(pci);
        if (error) {
            pci_dev_put(pci);
            stop();
            return error;
        }
    }
    return 0;
}

module_init(start);
module_exit(stop);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Makes mediated devices of display devices, without use");
