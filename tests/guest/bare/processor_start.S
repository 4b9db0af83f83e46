// What an application processor does from its start-up IPI on: from real mode at page 8 to start_of_processor() in 64-bit mode.
#include "entry.inc"

        .section .text
        .code16
        .globl  trampoline, trampoline_end, trampoline_cs, trampoline_cr0
trampoline:
        cli
        mov     %cs, %ax
        mov     %ax, %ds
        mov     %cr0, %eax
        mov     %eax, trampoline_cr0 - trampoline
        mov     %cs, %ax
        mov     %ax, trampoline_cs - trampoline
        lgdtl   pointer - trampoline
        enter_long_mode
        ljmpl   $8, $processor_start
pointer:
        .word   511
        .long   gdt
trampoline_cr0:
        .long   0
trampoline_cs:
        .word   0
trampoline_end:

        .code64
processor_start:
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     0xFEE00020, %eax
        shr     $24, %eax
        mov     %eax, %edi
        inc     %eax
        shl     $13, %eax
        lea     processor_stacks(%rax), %rsp
        call    start_of_processor
        hlt

        .section .bss
        .balign 16
processor_stacks:
        .skip   16 * 8192

        .section .note.GNU-stack, "", @progbits
