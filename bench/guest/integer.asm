; Integer code of known length, for counting instructions per second in any machine: a static x86-64 Linux program.
; 20,000,000 rounds of 20 instructions: a xorshift generator steers loads, stores, a branch that is hard to foresee (16 KiB
; table, both sides equally long), a call and a return. Exits with 0 if the sum is what it must be.
        bits 64
        default rel
        global _start

%define ROUNDS 20000000

        section .bss
table:  resq 2048

        section .text
_start: mov     rax, 0x9E3779B97F4A7C15
        lea     rsi, [table]
        xor     ebx, ebx
        mov     ecx, ROUNDS
round:  mov     rdx, rax                ; 1
        shl     rdx, 13                 ; 2
        xor     rax, rdx                ; 3
        mov     rdx, rax                ; 4
        shr     rdx, 7                  ; 5
        xor     rax, rdx                ; 6
        mov     edi, eax                ; 7
        and     edi, 2047               ; 8
        test    eax, 1 << 20            ; 9
        jz      even                    ; 10
        add     rbx, [rsi+rdi*8]        ; 11
        add     rbx, rdi                ; 12
        jmp     step                    ; 13
even:   add     [rsi+rdi*8], rdx        ; 11
        sub     rbx, rdi                ; 12
        jmp     step                    ; 13
        align   16
step:   call    mix                     ; 14, and 15 to 18 there
        dec     ecx                     ; 19
        jnz     round                   ; 20
        mov     edi, 1
        mov     rdx, 0xC5CFC1D608905048
        cmp     rbx, rdx
        jne     done
        xor     edi, edi
done:   mov     eax, 60
        syscall

mix:    mov     rdx, rax                ; 15
        shl     rdx, 17                 ; 16
        xor     rax, rdx                ; 17
        ret                             ; 18
