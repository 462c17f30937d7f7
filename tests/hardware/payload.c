/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole operating system of a guest: it lists the PCI devices that it
 * sees, has QEMU's device "edu" copy memory to itself and back, and says what
 * was in the memory of edu and of "ivshmem-plain" before, which it fills with
 * a mark. All is told on the serial port; then it powers off. QEMU loads it by
 * Multiboot 0.6.96; registers of edu are in docs/specs/edu.rst of QEMU, those
 * of ivshmem in ivshmem-spec.rst.
 */

#include <stdint.h>

#define SERIAL 0x3f8
#define EXIT 0xf4
#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc

#define EDU_ID 0x00
#define EDU_ID_VALUE 0x010000ed
#define EDU_LIVENESS 0x04
#define EDU_SOURCE 0x80
#define EDU_TARGET 0x88
#define EDU_COUNT 0x90
#define EDU_COMMAND 0x98
#define EDU_BUFFER 0x40000
#define START 1
#define TO_MEMORY 2
#define BYTES 256
/* edu has 4096 bytes; QEMU 7.2 aborts when the last of them is asked for. */
#define MEMORY_BYTES 4092
#define MARK 0x5ec4e701
#define IVSHMEM_BAR 0x18
/* Bits 0 to 3 of a BAR for memory: 64 bits wide, and prefetchable. */
#define IVSHMEM_KIND 12

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void put(const char *text)
{
    for (; *text; text++) {
        while (!(in8(SERIAL + 5) & 0x20)) {
        }
        out8(SERIAL, *text);
    }
}

static void put_hex(uint32_t value, int digits)
{
    char text[2] = {0, 0};
    while (digits--) {
        text[0] = "0123456789abcdef"[value >> (4 * digits) & 15];
        put(text);
    }
}

static uint32_t config(uint32_t slot, uint32_t offset)
{
    out32(CONFIG_ADDRESS, 1u << 31 | slot << 11 | offset);
    return in32(CONFIG_DATA);
}

static void set_config(uint32_t slot, uint32_t offset, uint32_t value)
{
    out32(CONFIG_ADDRESS, 1u << 31 | slot << 11 | offset);
    out32(CONFIG_DATA, value);
}

static volatile uint32_t *reg(uint32_t base, uint32_t offset)
{
    return (volatile uint32_t *)(uintptr_t)(base + offset);
}

static void copy(uint32_t base, uint32_t source, uint32_t target,
                 uint32_t bytes, uint32_t way)
{
    *reg(base, EDU_SOURCE) = source;
    *reg(base, EDU_TARGET) = target;
    *reg(base, EDU_COUNT) = bytes;
    *reg(base, EDU_COMMAND) = START | way;
    while (*reg(base, EDU_COMMAND) & START) {
    }
}

static uint8_t sent[BYTES] __attribute__((aligned(4096)));
static uint8_t received[BYTES] __attribute__((aligned(4096)));
static uint32_t memory[MEMORY_BYTES / 4] __attribute__((aligned(4096)));

/* Say what somebody has left, and leave a mark. */
static void mark(volatile uint32_t *words, uint32_t count)
{
    uint32_t found = count;
    for (uint32_t i = count; i--;) {
        if (words[i]) {
            found = i;
        }
    }
    if (found == count) {
        put("memory clean\n");
    } else {
        put("memory holds ");
        put_hex(words[found], 8);
        put(" at ");
        put_hex(4 * found, 8);
        put("\n");
    }
    for (uint32_t i = 0; i < count; i++) {
        words[i] = MARK;
    }
}

static void try_ivshmem(uint32_t slot)
{
    uint32_t bar = config(slot, IVSHMEM_BAR);
    if ((bar & 15) != IVSHMEM_KIND || bar == IVSHMEM_KIND ||
        config(slot, IVSHMEM_BAR + 4)) {
        return;
    }
    set_config(slot, IVSHMEM_BAR, ~0u);
    uint32_t bytes = -(config(slot, IVSHMEM_BAR) & ~15u);
    set_config(slot, IVSHMEM_BAR, bar);
    mark(reg(bar & ~15u, 0), bytes / 4);
}

static void try_edu(uint32_t slot)
{
    uint32_t base = config(slot, 0x10) & ~15u;
    if (!base || *reg(base, EDU_ID) != EDU_ID_VALUE) {
        return;
    }
    /* Before anything is written there. */
    copy(base, EDU_BUFFER, (uint32_t)(uintptr_t)memory, MEMORY_BYTES,
         TO_MEMORY);
    *reg(base, EDU_LIVENESS) = 0x12345678;
    put(*reg(base, EDU_LIVENESS) == ~0x12345678u ? "alive\n" : "dead\n");
    for (int i = 0; i < BYTES; i++) {
        sent[i] = 7 * i + 1;
        received[i] = 0;
    }
    copy(base, (uint32_t)(uintptr_t)sent, EDU_BUFFER, BYTES, 0);
    copy(base, EDU_BUFFER, (uint32_t)(uintptr_t)received, BYTES, TO_MEMORY);
    for (int i = 0; i < BYTES; i++) {
        if (received[i] != sent[i]) {
            put("DMA wrong\n");
            return;
        }
    }
    put("DMA right\n");
    mark(memory, MEMORY_BYTES / 4);
    copy(base, (uint32_t)(uintptr_t)memory, EDU_BUFFER, MEMORY_BYTES, 0);
}

__attribute__((used)) static void run(void)
{
    for (uint32_t slot = 0; slot < 32; slot++) {
        uint32_t ids = config(slot, 0);
        if ((ids & 0xffff) == 0xffff) {
            continue;
        }
        put("device ");
        put_hex(ids & 0xffff, 4);
        put(":");
        put_hex(ids >> 16, 4);
        put(" class ");
        put_hex(config(slot, 8) >> 16, 4);
        put("\n");
        /* Memory space and bus master. */
        set_config(slot, 4, config(slot, 4) | 6);
        try_edu(slot);
        try_ivshmem(slot);
    }
    put("end\n");
    out32(EXIT, 0);
    for (;;) {
        __asm__ volatile("hlt");
    }
}

static uint8_t stack[16384] __attribute__((used, aligned(16)));

/* The header of Multiboot must lie in the file's first 8192 bytes. */
__asm__(".text\n"
        ".align 4\n"
        ".long 0x1badb002, 0, -0x1badb002\n"
        ".globl _start\n"
        "_start:\n"
        "    mov $stack + 16384, %esp\n"
        "    call run\n");
