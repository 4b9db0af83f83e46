#include "fuzz_isa/native_frame.h"

// Offsets are those of NativeFrame; the stack is the end of the frame's pages. Only RAX has moves from 64-bit
// addresses.
asm(R"(
    .set frame, 0x30000000
    .set home, 0x234567800000
    .set stack_top, frame + 0xFF00

    .text
    .globl doppel_fuzz_isa_run, doppel_fuzz_isa_enter, doppel_fuzz_isa_leave, doppel_fuzz_isa_end, doppel_fuzz_isa_entry
doppel_fuzz_isa_run:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rax
    movabsq %rax, home
    movl $stack_top, %esp
    call doppel_fuzz_isa_next
doppel_fuzz_isa_go_on:
    testb %al, %al
    jz doppel_fuzz_isa_leave
doppel_fuzz_isa_enter:
    movl $7, %eax
    xorl %edx, %edx
    xrstor64 frame
    movw frame + 0x4A8, %ds
    movw frame + 0x4B0, %es
    movw frame + 0x4B8, %fs
    movw frame + 0x4C0, %gs
    movq frame + 0x4C8, %rax
    wrfsbase %rax
    movq frame + 0x4D0, %rax
    wrgsbase %rax
    movq frame + 0x400, %rax
    movq frame + 0x408, %rcx
    movq frame + 0x410, %rdx
    movq frame + 0x418, %rbx
    movq frame + 0x428, %rbp
    movq frame + 0x430, %rsi
    movq frame + 0x438, %rdi
    movq frame + 0x440, %r8
    movq frame + 0x448, %r9
    movq frame + 0x450, %r10
    movq frame + 0x458, %r11
    movq frame + 0x460, %r12
    movq frame + 0x468, %r13
    movq frame + 0x470, %r14
    movq frame + 0x478, %r15
    movl $(frame + 0x480), %esp
    iretq

doppel_fuzz_isa_end:
    movq %rax, frame + 0x400
    movq %rcx, frame + 0x408
    movq %rdx, frame + 0x410
    movq %rbx, frame + 0x418
    movq %rsp, frame + 0x420
    movq %rbp, frame + 0x428
    movq %rsi, frame + 0x430
    movq %rdi, frame + 0x438
    movq %r8, frame + 0x440
    movq %r9, frame + 0x448
    movq %r10, frame + 0x450
    movq %r11, frame + 0x458
    movq %r12, frame + 0x460
    movq %r13, frame + 0x468
    movq %r14, frame + 0x470
    movq %r15, frame + 0x478
    movl $stack_top, %esp
    pushfq
    popq frame + 0x490
    pushq $2
    popfq
    movw %ss, frame + 0x4A0
    movw %ds, frame + 0x4A8
    movw %es, frame + 0x4B0
    movw %fs, frame + 0x4B8
    movw %gs, frame + 0x4C0
    rdfsbase %rax
    movq %rax, frame + 0x4C8
    rdgsbase %rax
    movq %rax, frame + 0x4D0
    movl $7, %eax
    xorl %edx, %edx
    xsave64 frame
    movl $0x2B, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    xorl %eax, %eax
    movl %eax, %fs
    movabsq home + 8, %rax
    wrfsbase %rax
    call doppel_fuzz_isa_ended
    jmp doppel_fuzz_isa_go_on

doppel_fuzz_isa_leave:
    xorl %eax, %eax
    movl %eax, %fs
    movabsq home + 8, %rax
    wrfsbase %rax
    fninit
    movl $0x1F80, frame
    ldmxcsr frame
    vzeroupper
    movabsq home, %rax
    movq %rax, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

# The kernel enters handlers with the flags AC, NT and ID of the interrupted code, and with its segments.
doppel_fuzz_isa_entry:
    pushq $2
    popfq
    movw %ds, frame + 0x4D8
    movw %es, frame + 0x4E0
    movw %fs, frame + 0x4E8
    movw %gs, frame + 0x4F0
    rdfsbase %rax
    movq %rax, frame + 0x4F8
    rdgsbase %rax
    movq %rax, frame + 0x500
    movl $0x2B, %eax
    movl %eax, %ds
    movl %eax, %es
    xorl %eax, %eax
    movl %eax, %fs
    movabsq home + 8, %rax
    wrfsbase %rax
    subq $8, %rsp
    call doppel_fuzz_isa_signal
    addq $8, %rsp
    movw frame + 0x4D8, %ds
    movw frame + 0x4E0, %es
    movw frame + 0x4E8, %fs
    movw frame + 0x4F0, %gs
    movq frame + 0x4F8, %rax
    wrfsbase %rax
    movq frame + 0x500, %rax
    wrgsbase %rax
    ret
)");
