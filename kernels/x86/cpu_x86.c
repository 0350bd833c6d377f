/* What an x86-64 processor offers. An instruction set counts only if the processor has it (cpuid)
 * and the operating system saves its registers (xgetbv). */
#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/arch.h"
#include "kernels/cpu.h"

enum {
        /* leaf 1, ecx */
        ECX1_FMA = 1U << 12,
        ECX1_OSXSAVE = 1U << 27,
        ECX1_AVX = 1U << 28,
        ECX1_F16C = 1U << 29,
        /* leaf 7, subleaf 0 */
        EBX7_AVX2 = 1U << 5,
        EBX7_AVX512F = 1U << 16,
        EBX7_AVX512DQ = 1U << 17,
        EBX7_AVX512BW = 1U << 30,
        EBX7_AVX512VL = 1U << 31,
        ECX7_AVX512VBMI = 1U << 1,
        ECX7_AVX512VNNI = 1U << 11,
        /* leaf 7, subleaf 1 */
        EAX7_1_AVXVNNI = 1U << 4,
        /* xcr0 */
        XCR0_YMM = 0x06, /* SSE and AVX state */
        XCR0_ZMM = 0xe6, /* and mask registers, upper halves, registers 16-31 */
};

static uint32_t xcr0(void) {
        uint32_t eax, edx;

        __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
        return eax;
}

static bool has(uint32_t value, uint32_t bits) {
        return (value & bits) == bits;
}

unsigned cpu_detect_arch(void) {
        const uint32_t avx512 = EBX7_AVX512F | EBX7_AVX512DQ | EBX7_AVX512BW | EBX7_AVX512VL;
        uint32_t eax, ebx, ecx, edx, ecx1, os;
        unsigned flags = 0;

        if (!__get_cpuid(1, &eax, &ebx, &ecx1, &edx) || !has(ecx1, ECX1_OSXSAVE | ECX1_AVX))
                return 0;
        os = xcr0();
        if (!has(os, XCR0_YMM) || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
                return 0;
        if (!has(ebx, EBX7_AVX2) || !has(ecx1, ECX1_FMA | ECX1_F16C))
                return 0;
        flags |= CPU_AVX2;
        if (has(os, XCR0_ZMM) && has(ebx, avx512) && has(ecx, ECX7_AVX512VNNI))
                flags |= CPU_AVX512VL | CPU_AVX512VNNI;
        if (flags & CPU_AVX512VNNI && has(ecx, ECX7_AVX512VBMI))
                flags |= CPU_AVX512VBMI;
        if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && has(eax, EAX7_1_AVXVNNI))
                flags |= CPU_AVXVNNI;
        return flags;
}
