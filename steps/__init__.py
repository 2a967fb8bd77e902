"""The pipeline steps, grouped by purpose: the lowest layer that uses ZenML. Each step calls one component and stores one folder.

Inputs are folders made by other steps and have the same names everywhere: ``style_set`` of ``scan`` (or ``caption``), ``validation`` of
``validate`` (or ``examine``), ``split`` of ``split``, ``aux`` of ``build_aux``, ``model`` of ``fine_tune`` (or ``select``),
``pictures`` of ``sample_bank`` (or ``join_pictures``), ``base_pictures`` of ``sample_base``, ``scores`` of ``score`` (or
``score_joined``) and ``attention`` of ``explain``.
"""
