// PVH's entry, which is 32-bit protected mode already, and the exceptions' way to on_exception().
#include "../entry.inc"

        pvh_note start

        .section .text
        .code32
        .globl  start
start:  mov     $stack_top, %esp
        mov     %ebx, start_info
        lgdt    gdt_pointer
        ljmp    $8, $1f
1:      mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $0x600, %eax            // OSFXSR, OSXMMEXCPT
        mov     %eax, %cr4
        mov     $0x33, %eax             // NE, ET, MP, PE
        mov     %eax, %cr0
        call    main
        hlt

        vector_stubs

common: pushal
        push    %ds
        push    %es
        push    %fs
        push    %gs
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        cld
        mov     %esp, %ebx
        push    %esp
        call    on_exception
        mov     %ebx, %esp
restore:
        pop     %gs
        pop     %fs
        pop     %es
        pop     %ds
        popal
        add     $8, %esp
        iret

        // (struct Frame*): goes wherever it says; level 0 on the stack that it says.
        .globl  enter
enter:  mov     4(%esp), %eax
        testl   $0x20000, 64(%eax)
        jnz     virtual
        testb   $3, 60(%eax)
        jnz     outer
        mov     68(%eax), %esp
        jmp     same
virtual:
        .irp    offset, 88, 84, 80, 76
        pushl   \offset(%eax)
        .endr
outer:  pushl   72(%eax)
        pushl   68(%eax)
same:   pushl   64(%eax)
        pushl   60(%eax)
        pushl   56(%eax)
        pushl   52(%eax)
        pushl   48(%eax)
        .irp    offset, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 0
        pushl   \offset(%eax)
        .endr
        jmp     restore

        .section .data
        .globl  gdt, start_info
        .balign 16
gdt:    .quad   0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF
        .fill   59, 8, 0                // 28h: the task-state segment; then the suites'
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt
start_info:
        .long   0

        .section .bss
        .balign 16
        .skip   65536
stack_top:

        .section .note.GNU-stack, "", @progbits
