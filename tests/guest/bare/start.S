// From PVH's entry (32-bit protected mode, no paging) to main() in 64-bit mode, and the exceptions' way to on_exception().
#include "entry.inc"

        pvh_note start

        .section .text
        .code32
        .globl  start
start:  mov     $stack_top, %esp
        mov     %ebx, start_info
        mov     $page_directory, %edi
        mov     $0x83, %eax             // 2 MiB pages: present, writable
map:    mov     %eax, (%edi)
        add     $0x200000, %eax
        add     $8, %edi
        cmp     $page_directory + 4096, %edi
        jb      map
        movl    $page_directory + 3, pdpt
        movl    $pdpt + 7, pml4
        enter_long_mode
        lgdt    gdt_pointer
        ljmp    $8, $long_mode

        .code64
long_mode:
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $stack_top, %esp
        call    main
        hlt

        vector_stubs

common: push    %rax
        push    %rcx
        push    %rdx
        push    %rbx
        push    %rbp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        cld
        mov     %rsp, %rdi
        mov     %rsp, %rbx
        and     $-16, %rsp
        call    on_exception
        mov     %rbx, %rsp
restore:
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rbp
        pop     %rbx
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp
        iretq

        .globl  enter                   // (struct Frame*): goes wherever it says
enter:  mov     %rdi, %rsp
        jmp     restore

        .section .data
        .globl  gdt, tss, start_info
        .balign 16
gdt:    .quad   0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFF3000000FFFF, 0x00AFFB000000FFFF
        .quad   0, 0                    // 28h: the task-state segment
        .fill   57, 8, 0                // the suites'
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .quad   gdt
        .balign 16
tss:    .fill   104, 1, 0
start_info:
        .quad   0

        .section .bss
        .globl  pml4, pdpt, page_directory
        .balign 4096
pml4:   .skip   4096
pdpt:   .skip   4096
page_directory:
        .skip   4096
        .skip   65536
stack_top:

        .section .note.GNU-stack, "", @progbits
